"""Indexes for a workload: read what runs, build the twin, try candidates in it, choose; and what is there but not needed. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from pathlib import Path

from perfloop.change import drops
from perfloop.change.index_candidates import Candidate, candidates
from perfloop.change.index_choice import PAGE_BYTES, Costs, decide, explore
from perfloop.errors import CannotMeasure, PerfloopError, UsageError
from perfloop.host.files import read_limited
from perfloop.host.secrets import resolve
from perfloop.loop.stored import opened
from perfloop.model.advice import IndexAdvice, IndexesResult, QueryGain
from perfloop.model.event import Event, PhaseStarted
from perfloop.model.requests import IndexesRequest
from perfloop.sql import catalog
from perfloop.sql.connect import Connection, connect_readonly, query
from perfloop.sql.explain import explain as plan_of
from perfloop.sql.fingerprint import normalize
from perfloop.sql.parse import statements as parsed
from perfloop.sql.query_guard import one_query
from perfloop.sql.statement_facts import statements
from perfloop.twin import joint
from perfloop.twin.build import Twin
from perfloop.twin.snapshot import Snapshot, take
from perfloop.twin.text import table_names

FILE_MAX_BYTES = 8 * 2**20
QUERIES_MAX = 60
_WRITES = "select schemaname || '.' || relname, (n_tup_ins + n_tup_upd - n_tup_hot_upd)::float8 from pg_catalog.pg_stat_user_tables"


def advise(request: IndexesRequest, cwd: Path | None) -> Generator[Event, None, IndexesResult]:
    """The advice. Only catalogue queries and EXPLAIN reach the target, and a sample of its rows where ``sample`` allows it."""
    began = time.monotonic()
    loaded, _ = opened(request.config, cwd)
    reference = request.database or loaded.config.target.postgres
    if not reference:
        raise UsageError(
            "no database to ask", why="target.postgres is not configured", fix="perfloop indexes --database env:NAME, or target.postgres in perfloop.toml"
        )
    given = _given(Path(request.workload)) if request.workload else []
    notes: list[str] = []
    with connect_readonly(resolve(reference, loaded.base_dir), any_role=request.as_superuser) as connection:
        yield PhaseStarted(phase="look", detail="catalogue, statistics, workload")
        needless = drops.drops(drops.read(connection))
        texts, weights = _workload(connection, given, notes)
        known = catalog.tables(connection)
        schema = {table.name: tuple(table.columns) for table in known}
        found = candidates(texts, schema, {table.name: [index.columns for index in table.indexes if index.valid and not index.partial] for table in known})
        with connection.transaction(force_rollback=True):
            snapshot = take(connection, tuple(dict.fromkeys(name for text in texts for name in table_names(text)))) if texts else None
            counted = joint.sample(connection, snapshot, _joint_keys(found)) if snapshot and request.sample else {}
        writes = {} if given else {name: float(count) for name, count in query(connection, _WRITES)}
    if given:
        notes.append("queries from a file weigh the same, by their planner cost; writes are not in it, so no index is charged for them")
    notes.append("whether an index is used at all is not judged: replicas keep counters of their own")
    result = IndexesResult(drop=needless, budget_bytes=int(request.storage_mb * 1e6), notes=tuple(notes))
    if snapshot is None or not found:
        return result.with_(seconds=time.monotonic() - began)  # type: ignore[no-any-return]
    yield PhaseStarted(phase="plan", detail=f"{len(found)} candidates for {len(texts)} queries in the planner twin")
    with Twin(snapshot, joint=counted) as twin:
        costs = explore(twin, texts, [_tables(text, snapshot) for text in texts], found)
        scaled = [weight / max(costs.base[number], 1e-9) for number, weight in enumerate(weights)] if not given else weights
        choice, final = decide(costs, scaled, writes, request.storage_mb * 1e6)
        made = _advice(costs, found, choice.items, scaled, final, writes)
        queries = tuple(
            QueryGain(
                query=normalize(text),
                weight=scaled[number],
                cost_before=costs.base[number],
                cost_after=final[number],
                uses=tuple(found[item].ddl() for item in sorted(costs.plan(number, choice.items)[1])),
            )
            for number, text in enumerate(texts)
        )
        notes += list(dict.fromkeys(twin.notes))[:10]
    before = sum(costs.base[number] * scaled[number] for number in costs.base)
    return result.with_(  # type: ignore[no-any-return]
        create=made,
        queries=queries,
        cost_ratio=sum(final[number] * scaled[number] for number in final) / before if before else 1.0,
        candidates=len(found),
        plans_asked=costs.asked,
        optimal=choice.optimal,
        notes=tuple(notes),
        seconds=time.monotonic() - began,
    )


def _given(path: Path) -> list[str]:
    """The SELECTs of a file; UsageError where one of its statements is none."""
    text = read_limited(path, FILE_MAX_BYTES).decode(errors="replace")
    found = [one_query(statement.text) for statement in parsed(text, "postgres")]
    if len(found) > QUERIES_MAX:
        raise UsageError(f"{path} holds {len(found)} queries", why=f"at most {QUERIES_MAX} are looked at together", fix="give those that take the most time")
    return found


def _workload(connection: Connection, given: Sequence[str], notes: list[str]) -> tuple[list[str], list[float]]:
    """(texts, weights): the given ones, else those with the most time in pg_stat_statements, by their time. What cannot be planned is left out and told."""
    rows = [(text, 1.0) for text in given]
    if not rows:
        rows = [(row.raw, row.total_ms) for row in statements(connection, QUERIES_MAX * 2)]
        if not rows:
            raise CannotMeasure(
                "there is no workload to advise on",
                why="pg_stat_statements is not there, or shows nothing to this role",
                fix="give the queries: perfloop indexes queries.sql; or CREATE EXTENSION pg_stat_statements",
            )
        notes.append("weights are each query's time in pg_stat_statements since its counters were reset")
    texts: list[str] = []
    weights: list[float] = []
    for text, weight in rows:
        if len(texts) == QUERIES_MAX:
            break
        try:
            single = one_query(text)
            if not table_names(single):
                continue
            plan_of(connection, single)
        except PerfloopError as error:
            if given:
                raise
            notes.append(f"left out: {normalize(text)[:80]} ({error.why or error.what})") if weight > 0 and len(notes) < 5 else None
            continue
        texts.append(single)
        weights.append(weight)
    return texts, weights


def _tables(text: str, snapshot: Snapshot) -> frozenset[str]:
    """Tables that a query may read: those that it names, and, where it names a view, all."""
    named = {name.replace('"', "").rpartition(".")[2].lower() for name in table_names(text)}
    every = {table["bare_name"].lower(): f"{table['bare_schema']}.{table['bare_name']}" for table in snapshot.tables}
    return frozenset(every.values()) if named - set(every) else frozenset(every[name] for name in named)


def _joint_keys(found: Sequence[Candidate]) -> list[joint.Key]:
    return sorted(
        {(candidate.table, frozenset(column for column, _ in candidate.keys), "") for candidate in found if len(candidate.keys) > 1 and not candidate.include},
        key=str,
    )


def _advice(
    costs: Costs, found: Sequence[Candidate], chosen: frozenset[int], weights: Sequence[float], final: dict[int, float], writes: dict[str, float]
) -> tuple[IndexAdvice, ...]:
    """Each chosen index with what the workload would lose without it."""
    whole = sum(cost * weights[number] for number, cost in costs.base.items())
    made = []
    for item in sorted(chosen):
        without = sum((costs.plan(number, chosen - {item})[0] - cost) * weights[number] for number, cost in final.items())
        index, candidate = costs.made[item], found[item]
        made.append(
            IndexAdvice(
                ddl=candidate.ddl() + ";",
                undo=candidate.undo() + ";",
                table=candidate.table,
                size_bytes=index.pages * PAGE_BYTES,
                size_low_bytes=index.low * PAGE_BYTES,
                size_high_bytes=index.high * PAGE_BYTES,
                gain=without / whole if whole else 0.0,
                write_cost=writes.get(candidate.table, 0.0) * 0.4,
                disproof="built, the planner does not use it for these queries, or their measured time does not fall",
                notes=index.notes,
            )
        )
    return tuple(sorted(made, key=lambda one: -one.gain))
