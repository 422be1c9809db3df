"""Fills the evidence of one query: plans without values, the bisect's trials, tables, conditions, statements, and the generic plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from perfloop.errors import CannotMeasure
from perfloop.loop.catalog import Catalog
from perfloop.model.query import FactorTried, QueryEvidence
from perfloop.sql import statement_facts
from perfloop.sql.conditions import conditions
from perfloop.sql.connect import Connection, query, readonly_transaction
from perfloop.sql.explain import plan_of
from perfloop.sql.hidden import without_literals
from perfloop.sql.parse import LEXEMES
from perfloop.sql.table_facts import tables_now
from perfloop.twin import archive
from perfloop.twin.bisect import Bisection, Trial
from perfloop.twin.factors import Factor
from perfloop.twin.snapshot import Snapshot
from perfloop.twin.text import table_names
from perfloop.twin.whatif import nodes, shape

GENERIC_MAX_S = 10.0


def tables_of(text: str, *snapshots: Snapshot) -> set[str] | None:
    """The quoted names of the tables that the text names, with those it refers to; None where a view is among them, which may rest on any."""
    wanted = set(table_names(text))
    if not wanted:
        return None
    found: set[str] = set()
    views = {name.rpartition(".")[2] for snapshot in snapshots for name, _ in snapshot.views}
    for name in wanted:
        bare = name.rpartition(".")[2]
        if bare in views:
            return None
        here = {table["name"] for snapshot in snapshots for table in snapshot.tables if table["name"] == name or table["name"].rpartition(".")[2] == bare}
        if not here:
            raise CannotMeasure(f"the planner twin has no table {name}", why="it is partitioned, foreign, or not visible to this role")
        found |= here
    return found


def narrowed(then: Snapshot, now: Snapshot, tables: set[str] | None) -> tuple[Snapshot, Snapshot]:
    """Both snapshots with these tables alone; no view where tables are named."""
    if tables is None:
        return then, now
    return replace(archive.only(then, tables), views=()), replace(archive.only(now, tables), views=())


def with_values(text: str, values: tuple[str, ...]) -> str:
    """``$n`` replaced by quoted literals, whose type PostgreSQL tells from where they stand."""
    out, position = [], 0
    for match in LEXEMES.finditer(text):
        if match.lastgroup == "parameter" and match[0][1:].isdigit() and 0 < int(match[0][1:]) <= len(values):
            value = values[int(match[0][1:]) - 1]
            out += [text[position : match.start()], "'" + value.replace("'", "''") + "'"]
            position = match.end()
    return "".join((*out, text[position:]))


def with_plans(evidence: QueryEvidence, plan: dict[str, Any], bisection: Bisection | None, then: Catalog | None, now: Catalog) -> QueryEvidence:
    """The plan of now as the target tells it; the plan of then and the trials as the twins tell them."""
    changes: dict[str, Any] = {"plan_now": without_literals(plan), "cost_now": plan["Total Cost"]}
    old, new = (dict(catalog.planner.settings) if catalog else {} for catalog in (then, now))
    changes["work_mem_kb"] = int(new.get("work_mem", 0))
    changes["work_mem_then_kb"] = int(old["work_mem"]) if "work_mem" in old else None
    if then is not None:
        times = then.times_ms or {}
        if evidence.fingerprint in times:
            changes |= {"time_then_ms": times[evidence.fingerprint], "time_then_source": "perfloop query then"}
    if bisection is not None:
        exact = shape(bisection.plan_now) == shape(plan)
        changes |= {
            "plan_then": without_literals(bisection.plan_then),
            "cost_then": bisection.plan_then["Total Cost"],
            "plan_changed": bisection.changed,
            "twin_exact": exact,
            "trials": tuple(_tried(trial) for trial in bisection.cause),
            "tried": len(bisection.tried),
        }
        if not exact:
            changes["notes"] = (
                *evidence.notes,
                "the planner twin of now plans it otherwise than the target does: its trials are a hint, no proof",
                *bisection.notes[:3],
            )
    filled: QueryEvidence = evidence.with_(**changes)
    return filled


def _tried(trial: Trial) -> FactorTried:
    return FactorTried(
        kind=trial.factors[0].kind,
        subjects=tuple(_subject(factor) for factor in trial.factors),
        detail="; ".join(dict.fromkeys(factor.detail for factor in trial.factors))[:2_000],
        forward=trial.forward,
        backward=trial.backward,
        cost_forward=trial.cost_forward,
        cost_backward=trial.cost_backward,
    )


def _subject(factor: Factor) -> str:
    if factor.kind in ("statistics", "type"):
        return f"{factor.table}.{factor.name.rpartition('.')[2]}".replace('"', "")
    return (factor.name or factor.table).replace('"', "")


def relations(plan: dict[str, Any]) -> Iterator[str]:
    """``schema.table`` of all scans."""
    for node in nodes(plan):
        if "Relation Name" in node:
            yield f"{node.get('Schema', 'public')}.{node['Relation Name']}"


def with_facts(
    evidence: QueryEvidence,
    connection: Connection,
    text: str,
    values: tuple[str, ...],
    plan: dict[str, Any],
    then: Catalog | None,
    known: tuple[statement_facts.StatementRow, ...],
    runnable: bool,
) -> QueryEvidence:
    """Tables, conditions with their counts, the statement's counters, and the generic plan's time."""
    verbose = _verbose_plan(connection, text, values) or plan
    changes: dict[str, Any] = {"tables": tables_now(connection, relations(verbose), then.table_rows() if then else {})}
    if runnable:
        changes["conditions"] = conditions(connection, verbose)
    changes |= _counters(evidence, known, then)
    changes["plan_cache_mode"] = str(query(connection, "select current_setting('plan_cache_mode')")[0][0])
    if values and runnable:
        changes |= _generic(connection, text, values)
    filled: QueryEvidence = evidence.with_(**changes)
    return filled


def _verbose_plan(connection: Connection, text: str, values: tuple[str, ...]) -> dict[str, Any] | None:
    """With schemas; bound values are written in, so that conditions show them."""
    try:
        with readonly_transaction(connection):
            found: dict[str, Any] = plan_of(connection, f"EXPLAIN (VERBOSE, FORMAT JSON) {with_values(text, values)}")["Plan"]
            return found
    except CannotMeasure:
        return None


def _counters(evidence: QueryEvidence, known: tuple[statement_facts.StatementRow, ...], then: Catalog | None) -> dict[str, Any]:
    deltas = statement_facts.since(known, then.statements) if then else known
    own = next((row for row in deltas if row.fingerprint == evidence.fingerprint), None) or next(
        (row for row in known if row.fingerprint == evidence.fingerprint), None
    )
    changes: dict[str, Any] = {}
    if own is not None and own.calls:
        changes |= {"calls": own.calls, "mean_ms": own.mean_ms, "rows_per_call": own.rows / own.calls}
        parent = statement_facts.parent_of(own, deltas)
        if parent is not None:
            changes |= {"parent": parent[0].text, "parent_ratio": parent[1]}
    before = next((row for row in then.statements if row["fingerprint"] == evidence.fingerprint and row["calls"]), None) if then else None
    if before is not None and evidence.time_then_ms is None:
        changes |= {"time_then_ms": before["total_ms"] / before["calls"], "time_then_source": "pg_stat_statements then"}
    return changes


def _generic(connection: Connection, text: str, values: tuple[str, ...]) -> dict[str, Any]:
    """The time with a plan that may not look at the values, best of two."""
    times: list[float] = []
    plan: dict[str, Any] = {}
    arguments = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    try:
        with readonly_transaction(connection):
            connection.execute(f"SET LOCAL statement_timeout = {int(GENERIC_MAX_S * 1000)}".encode())
            connection.execute(b"SET LOCAL plan_cache_mode = force_generic_plan")
            connection.execute(f"PREPARE perfloop_generic AS {text}".encode(), binary=True)
            for _ in range(2):
                found = plan_of(connection, f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE perfloop_generic({arguments})")
                times.append(float(found["Execution Time"]))
                plan = found["Plan"]
            connection.execute(b"DEALLOCATE perfloop_generic")
    except CannotMeasure:
        return {}
    return {"generic_ms": min(times), "generic_plan": without_literals(plan)}
