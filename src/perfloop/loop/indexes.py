"""Indexes for a workload: read what runs, build the twin, try candidates in it, choose; and what is there but not needed. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from pathlib import Path

from perfloop.change import drops
from perfloop.change.index_candidates import WORD, Candidate, candidates
from perfloop.change.index_choice import PAGE_BYTES, Costs, decide, explore, made_in, worthwhile
from perfloop.change.plan_candidates import SPECIAL_MAX, TableFacts, special
from perfloop.errors import UsageError
from perfloop.host.secrets import resolve
from perfloop.loop import catalog as catalogs
from perfloop.loop import workload
from perfloop.loop.stored import opened
from perfloop.model.advice import IndexAdvice, IndexDrop, IndexesResult, QueryGain
from perfloop.model.event import Event, PhaseStarted
from perfloop.model.requests import IndexesRequest
from perfloop.sql import catalog
from perfloop.sql.connect import Connection, connect_readonly, query
from perfloop.sql.fingerprint import fingerprint, normalize
from perfloop.twin import joint
from perfloop.twin.build import Twin
from perfloop.twin.snapshot import Snapshot, take
from perfloop.twin.text import table_names

_WRITES = "select schemaname || '.' || relname, (n_tup_ins + n_tup_upd - n_tup_hot_upd)::float8 from pg_catalog.pg_stat_user_tables"


def advise(request: IndexesRequest, cwd: Path | None) -> Generator[Event, None, IndexesResult]:
    """The advice. Only catalogue queries and EXPLAIN reach the target, and a sample of its rows where ``sample`` allows it."""
    began = time.monotonic()
    loaded, store = opened(request.config, cwd)
    reference = request.database or loaded.config.target.postgres
    if not reference:
        raise UsageError(
            "no database to ask", why="target.postgres is not configured", fix="perfloop indexes --database env:NAME, or target.postgres in perfloop.toml"
        )
    dsn = resolve(reference, loaded.base_dir)
    notes: list[str] = []
    rows = workload.read(Path(request.workload), notes) if request.workload else []
    by_calls = bool(rows) and all(weight == 1.0 for _, weight in rows)
    then = catalogs.load(store, catalogs.find(store, request.since, dsn)).statements if request.since else None
    with connect_readonly(dsn, any_role=request.as_superuser) as connection:
        yield PhaseStarted(phase="look", detail="catalogue, statistics, workload")
        needless = _needless(connection, request, [resolve(one, loaded.base_dir) for one in request.replicas], notes)
        texts, weights = workload.planned(connection, rows or workload.counted(connection, then, notes), bool(request.workload) and by_calls, notes)
        found, snapshot = _candidates(connection, texts)
        with connection.transaction(force_rollback=True):
            counted = joint.sample(connection, snapshot, _joint_keys(found)) if snapshot and request.sample else {}
        writes = {} if request.workload else {name: float(count) for name, count in query(connection, _WRITES)}
    result = IndexesResult(drop=needless, budget_bytes=int(request.storage_mb * 1e6), notes=tuple(notes))
    if snapshot is None:
        return result.with_(seconds=time.monotonic() - began)  # type: ignore[no-any-return]
    with Twin(snapshot, joint=counted) as twin:
        tables = [_tables(text, snapshot) for text in texts]
        found = (*found, *_special(twin, texts, snapshot, found))
        if not found:
            return result.with_(seconds=time.monotonic() - began)  # type: ignore[no-any-return]
        yield PhaseStarted(phase="plan", detail=f"{len(found)} candidates for {len(texts)} queries in the planner twin")
        kept, made = made_in(twin, found)
        costs = explore(twin, texts, tables, kept, made)
        scaled = weights if by_calls else [weight / max(costs.base[number], 1e-9) for number, weight in enumerate(weights)]
        choice, _ = decide(costs, scaled, writes, request.storage_mb * 1e6)
        chosen, final = worthwhile(costs, scaled, choice.items, request.min_gain)
        advice = _advice(costs, kept, chosen, scaled, final, writes)
        queries = tuple(
            QueryGain(
                query=normalize(text),
                weight=scaled[number],
                cost_before=costs.base[number],
                cost_after=final[number],
                uses=tuple(kept[item].ddl() for item in sorted(costs.plan(number, chosen)[1])),
            )
            for number, text in enumerate(texts)
        )
        notes += list(dict.fromkeys(twin.notes))[:10]
    before = sum(costs.base[number] * scaled[number] for number in costs.base)
    return result.with_(  # type: ignore[no-any-return]
        create=advice,
        queries=queries,
        cost_ratio=sum(final[number] * scaled[number] for number in final) / before if before else 1.0,
        candidates=len(kept),
        plans_asked=costs.asked,
        optimal=choice.optimal and chosen == choice.items,
        notes=tuple(notes),
        seconds=time.monotonic() - began,
    )


def _candidates(connection: Connection, texts: Sequence[str]) -> tuple[tuple[Candidate, ...], Snapshot | None]:
    """Those of the texts, and what the twin is built from."""
    known = catalog.tables(connection)
    schema = {table.name: tuple(table.columns) for table in known}
    found = candidates(texts, schema, {table.name: [index.columns for index in table.indexes if index.valid and not index.partial] for table in known})
    with connection.transaction(force_rollback=True):
        snapshot = take(connection, tuple(dict.fromkeys(name for text in texts for name in table_names(text)))) if texts else None
    return found, snapshot


def _needless(connection: Connection, request: IndexesRequest, replicas: Sequence[str], notes: list[str]) -> tuple[IndexDrop, ...]:
    """Duplicates and leftovers, and what nothing used, where that was asked for and can be known."""
    facts = drops.read(connection)
    found = drops.drops(facts)
    if not request.unused_days:
        notes.append("whether an index is used at all is not judged: --unused-days, with --replicas where there are some")
        return found
    counted = [drops.use(connection)]
    for dsn in replicas:
        with connect_readonly(dsn, any_role=request.as_superuser) as replica:
            counted.append(drops.use(replica))
    behind = query(connection, "select count(*) from pg_catalog.pg_stat_replication")
    if behind and int(behind[0][0]) > len(replicas):
        notes.append(
            f"unused indexes are not named: {behind[0][0]} replicas are connected and {len(replicas)} were given (--replicas), and each keeps counters of its own"
        )
        return found
    if min(one.days for one in counted) < request.unused_days:
        notes.append(
            f"unused indexes are not named: the counters go back {min(one.days for one in counted):.1f} days, and {request.unused_days:g} were asked for"
        )
    named = {drop.index for drop in found}
    return (*found, *(drop for drop in drops.unused(facts, counted, drops.supporting(connection), request.unused_days) if drop.index not in named))


def _special(twin: Twin, texts: Sequence[str], snapshot: Snapshot, plain: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Partial, expression, GIN and BRIN candidates, from the twin's own plans of the queries. A condition that differs between executions of one statement is none for a partial index."""
    facts = _table_facts(snapshot)
    by: dict[str, list[set[Candidate]]] = {}
    for text in texts:
        words = {word.lower() for word in WORD.findall(text)}
        found = special(twin.explain(text, verbose=True), facts, [one for one in plain if one.may_serve(words)])
        by.setdefault(fingerprint(text), []).append(set(found))
    wanted: dict[Candidate, int] = {}
    for samples in by.values():
        always = set.intersection(*samples)
        for candidate in {one for sample in samples for one in sample if not one.where} | always:
            wanted[candidate] = wanted.get(candidate, 0) + 1
    return tuple(sorted(wanted, key=lambda one: (-wanted[one], one.name))[:SPECIAL_MAX])


def _table_facts(snapshot: Snapshot) -> dict[str, TableFacts]:
    names = {table["oid"]: (table["bare_schema"], table["bare_name"]) for table in snapshot.tables}
    types: dict[tuple[str, str], dict[str, str]] = {name: {} for name in names.values()}
    for column in snapshot.columns:
        types[names[column["oid"]]][column["column"]] = column.get("type", "")
    order: dict[tuple[str, str], dict[str, float]] = {name: {} for name in names.values()}
    distinct: dict[tuple[str, str], dict[str, float]] = {name: {} for name in names.values()}
    for row in snapshot.stats:
        name = (row["schemaname"], row["relname"])
        if name in order:
            order[name][row["attname"]] = float(row.get("correlation") or 0.0)
            distinct[name][row["attname"]] = float(row["n_distinct"])
    return {
        ".".join(name): TableFacts(table["pages"], types[name], order[name], distinct[name]) for table in snapshot.tables for name in (names[table["oid"]],)
    }


def _tables(text: str, snapshot: Snapshot) -> frozenset[str]:
    """Tables that a query may read: those that it names, and, where it names a view, all."""
    named = {name.replace('"', "").rpartition(".")[2].lower() for name in table_names(text)}
    every = {table["bare_name"].lower(): f"{table['bare_schema']}.{table['bare_name']}" for table in snapshot.tables}
    return frozenset(every.values()) if named - set(every) else frozenset(every[name] for name in named)


def _joint_keys(found: Sequence[Candidate]) -> list[joint.Key]:
    return sorted(
        {
            (candidate.table, frozenset(column for column, _ in candidate.keys), "")
            for candidate in found
            if len(candidate.keys) > 1 and not candidate.include and candidate.plain
        },
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
