"""One query: read the text, look at it on the target, ask the planner of then and of now, judge, and (where asked) fix and prove."""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from perfloop.diagnose.query.judge import judge, where
from perfloop.diagnose.query.view import View
from perfloop.errors import CannotMeasure, PerfloopError, UsageError
from perfloop.host.secrets import resolve
from perfloop.loop import catalog as catalogs
from perfloop.loop import query_facts, query_fix
from perfloop.loop.query_text import by_id, from_log, is_id
from perfloop.loop.stored import opened
from perfloop.model.base import Estimate
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.query import QueryEvidence, QueryResult
from perfloop.model.requests import QueryRequest
from perfloop.model.target import Environment
from perfloop.model.verdict import Decision
from perfloop.sql.connect import Connection, connect_readonly
from perfloop.sql.explain import explain, parameters_in
from perfloop.sql.fingerprint import fingerprint, normalize
from perfloop.sql.measured import measure
from perfloop.sql.query_guard import one_query, refuse_volatile
from perfloop.store.runs import RunStore
from perfloop.twin.bisect import Bisection, bisect
from perfloop.twin.factors import differences

EARLIER_MAX = 3
OWNER = "query"


@dataclass
class Asked:
    """What was asked, resolved."""

    request: QueryRequest
    dsn: str = field(repr=False)
    store: RunStore
    environment: Environment
    text: str = field(default="", repr=False)
    values: tuple[str, ...] = field(default=(), repr=False)
    notes: list[str] = field(default_factory=list)


def query(request: QueryRequest, cwd: Path | None) -> Generator[Event, None, QueryResult]:
    """The whole look at one query. Refuses before anything runs what is no single reading statement."""
    began = time.monotonic()
    loaded, store = opened(request.config, cwd)
    reference = request.database or loaded.config.target.postgres
    if not reference:
        raise UsageError(
            "no database to ask", why="target.postgres is not configured", fix="perfloop query … --database env:NAME, or target.postgres in perfloop.toml"
        )
    try:
        timeout_s = request.timeout_s
    except ValueError as error:
        raise UsageError(f"invalid value for --timeout: {error}") from None
    asked = Asked(request, resolve(reference, loaded.base_dir), store, request.environment or loaded.config.target.environment or Environment.STAGING)
    _text_of(asked)
    with ExitStack() as stack:
        connection = stack.enter_context(connect_readonly(asked.dsn, any_role=request.as_superuser))
        watcher = stack.enter_context(connect_readonly(asked.dsn, any_role=request.as_superuser))
        if is_id(request.query):
            yield Told(text=f"statement {request.query.strip()} of pg_stat_statements")
        _find_by_id(asked, connection)
        evidence, after = yield from _look(asked, connection, watcher, timeout_s)
    causes = judge(evidence)
    result = _result(evidence, causes, began)
    if after is not None:
        saved = catalogs.save(asked.store, asked.dsn, OWNER, after)
        result = result.with_(snapshot=saved.name)
    if causes:
        again = query_fix.Query(asked.text, asked.values, asked.dsn, request.as_superuser, evidence)
        fixes = yield from query_fix.fixes(loaded, asked.environment, again, causes, apply=request.fix and bool(evidence.run), yes=request.yes, run_id=OWNER)
        kept = any(fix.decision == Decision.KEPT for fix in fixes)
        result = result.with_(fixes=fixes, ok=kept or not View(evidence).slower)
    return result.with_(seconds=time.monotonic() - began)  # type: ignore[no-any-return]


def _text_of(asked: Asked) -> None:
    """From the argument or a log; ids are looked up once connected. Everything that is no single SELECT is refused here, before any connection."""
    given = asked.request.query.strip()
    asked.values = asked.request.values
    if is_id(given):
        return
    if len(given) < 4_096 and "\n" not in given and not re.match(r"\s*(?:select|with|values|\()", given, re.I) and Path(given).is_file():
        text, values, told = from_log(Path(given))
        asked.text, asked.values = text, asked.values or values
        asked.notes.append(told)
    else:
        asked.text = given
    asked.text = one_query(asked.text)
    if asked.request.was_query:
        one_query(asked.request.was_query)
    _check_values(asked)


def _find_by_id(asked: Asked, connection: Connection) -> None:
    if not is_id(asked.request.query):
        return
    from perfloop.sql.statement_facts import statements

    asked.text = one_query(by_id(asked.request.query, statements(connection)))
    _check_values(asked)


def _check_values(asked: Asked) -> None:
    count = parameters_in(asked.text)
    if asked.values and len(asked.values) != count:
        raise UsageError(f"the query has {count} parameters, and {len(asked.values)} values are given", fix="--values VALUE1,VALUE2 … in the order of $1, $2 …")


def _look(asked: Asked, connection: Connection, watcher: Connection, timeout_s: float) -> Generator[Event, None, tuple[QueryEvidence, catalogs.Catalog | None]]:
    """Everything from the target, then the planner twins."""
    text, request = asked.text, asked.request
    refuse_volatile(connection, text)
    count = parameters_in(text)
    evidence = QueryEvidence(
        text=normalize(text), fingerprint=fingerprint(text), placeholders=count, server_version=connection.info.server_version, database=connection.info.dbname
    )
    runnable = not request.no_run and not (count and not asked.values)
    if count and not asked.values:
        asked.notes.append("the query has parameters and no values were given: it is planned for unknown values and not executed (--values)")
    if runnable and asked.environment is Environment.PRODUCTION:
        asked.notes.append(f"the query is executed in production, read-only, for at most {timeout_s:g} s in all (--no-run plans it only)")
    if runnable:
        yield PhaseStarted(phase="run", detail=f"up to 3 executions in read-only transactions, at most {timeout_s:g} s")
        evidence = evidence.with_(run=measure(connection, watcher, text, asked.values, timeout_s))
        if evidence.run and evidence.run.timed_out and evidence.run.lock_wait_ms:
            asked.notes.append("it waited for a lock, so its plan was not looked at")
            return evidence.with_(notes=tuple(asked.notes)), None
    yield PhaseStarted(phase="look", detail="plan, tables, statistics, statements")
    plan, _ = explain(connection, text, asked.values)
    now, known = catalogs.read_now(connection)
    run = evidence.run
    now = replace(now, times_ms={evidence.fingerprint: run.best_ms} if run and run.times_ms else {})
    row, then = yield from _then(asked, now)
    bisection = yield from _bisect(asked, then, now, _not_slower(evidence, then))
    evidence = query_facts.with_plans(evidence, plan["Plan"], bisection, then, now)
    evidence = query_facts.with_facts(evidence, connection, text, asked.values, plan["Plan"], then, known, runnable)
    told = {"then_name": row.name, "then_at": row.at.isoformat()} if row else {}
    return evidence.with_(**told, notes=(*asked.notes, *evidence.notes)), now


def _then(asked: Asked, now: catalogs.Catalog) -> Generator[Event, None, tuple[Any, catalogs.Catalog | None]]:
    """The snapshot that --was names; else the newest of the stored ones that differs in anything the planner looks at."""
    if asked.request.was:
        row = catalogs.find(asked.store, asked.request.was, asked.dsn)
        return row, catalogs.load(asked.store, row)
    names = {table["name"] for table in now.planner.tables}
    for row in catalogs.earlier(asked.store, asked.dsn, EARLIER_MAX):
        try:
            then = catalogs.load(asked.store, row)
        except PerfloopError as error:
            asked.notes.append(f"{row.name} was left out: {error.what}")
            continue
        if names and differences(then.planner, now.planner):
            yield Told(text=f"compared with the snapshot {row.name}")
            return row, then
    return None, None


def _not_slower(evidence: QueryEvidence, then: catalogs.Catalog | None) -> bool:
    """True where its time then is known and it is not slower now: the plans are compared, and no cause is searched."""
    before = (then.times_ms or {}).get(evidence.fingerprint) if then else None
    return View(evidence.with_(time_then_ms=before)).slower is False


def _bisect(asked: Asked, then: catalogs.Catalog | None, now: catalogs.Catalog, compare_only: bool) -> Generator[Event, None, Bisection | None]:
    if then is None:
        return None
    yield PhaseStarted(phase="bisect", detail="the planner of then and of now, one difference at a time")
    try:
        tables = query_facts.tables_of(asked.text, then.planner, now.planner)
        found = bisect(
            *query_facts.narrowed(then.planner, now.planner, tables),
            _bound(asked.text, asked.values),
            _bound(asked.request.was_query, asked.values),
            search=not compare_only,
        )
    except CannotMeasure as error:
        asked.notes.append(f"no plan bisect: {error.what}" + (f" ({error.why})" if error.why else ""))
        return None
    kinds = f"{len(found.factors)} differences, {len(found.tried)} combinations tried in {found.seconds:.1f} s"
    yield Told(text=f"the plan {'changed' if found.changed else 'is the same as then'}; {kinds}")
    return found


def _bound(text: str, values: tuple[str, ...]) -> str:
    """The text with its values in the place of ``$n``, as literals, so that the twins plan for them."""
    return query_facts.with_values(text, values) if values else text


def _result(evidence: QueryEvidence, causes: tuple[Any, ...], began: float) -> QueryResult:
    run = evidence.run
    now = None
    if run and run.times_ms:
        now = Estimate(
            value=run.best_ms, low=min(run.times_ms), high=max(run.times_ms), n=len(run.times_ms), unit="ms", source="EXPLAIN ANALYZE, fastest of all"
        )
    ratio = run.best_ms / evidence.time_then_ms if run and run.best_ms and evidence.time_then_ms else None
    why = ""
    if not causes:
        looked = f"{len(evidence.tables)} tables, {len(evidence.conditions)} conditions" + (
            f", {evidence.tried} combinations in the planner twin" if evidence.tried else ""
        )
        slower = " It is not slower than it was." if ratio is not None and ratio < 1.5 else ""
        why = f"no cause was found in {looked}.{slower}"
    return QueryResult(evidence=evidence, causes=causes, why_none=why, time_now=now, time_ratio=ratio, where=where(evidence), seconds=time.monotonic() - began)
