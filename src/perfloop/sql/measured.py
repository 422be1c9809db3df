"""One query executed and watched: EXPLAIN (ANALYZE, BUFFERS) a few times in read-only transactions, and what its session waited for meanwhile."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from perfloop.errors import CannotMeasure
from perfloop.model.query import NodeRun, QueryRun
from perfloop.sql.connect import Connection, query, readonly_transaction
from perfloop.sql.explain import plan_of
from perfloop.sql.fingerprint import normalize
from perfloop.sql.hidden import hide_values

RUNS_MAX = 5
SAMPLE_EVERY_S = 0.02
LOCK_TIMEOUT_S = 2.0

_WAITS = "select coalesce(wait_event_type || ':' || wait_event, 'CPU'), cardinality(pg_blocking_pids(pid)) > 0 from pg_catalog.pg_stat_activity where pid = %s and state = 'active'"
#: the queue before a session, its root first: who blocks whom, through all levels
_TREE = """
with recursive queue(pid, blocks, depth, path) as (
  select b, %s::int, 1, array[%s::int, b] from unnest(pg_blocking_pids(%s)) b
  union all
  select b, q.pid, q.depth + 1, q.path || b from queue q, unnest(pg_blocking_pids(q.pid)) b where not b = any(q.path) and q.depth < 10)
select distinct on (q.pid) q.depth, q.pid, q.blocks, coalesce(a.state, '?'), coalesce(extract(epoch from now() - a.xact_start)::int, -1), coalesce(a.application_name, ''), coalesce(left(a.query, 200), ''),
  coalesce((select string_agg(distinct l.mode || ' on ' || l.relation::regclass::text, ', ') from pg_catalog.pg_locks l
            where l.pid = q.pid and l.granted and l.locktype = 'relation' and l.mode in ('AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock')), '')
from queue q left join pg_catalog.pg_stat_activity a on a.pid = q.pid order by q.pid, q.depth desc
"""


class Watcher(threading.Thread):
    """Samples one session from another connection until stopped."""

    def __init__(self, connection: Connection, pid: int) -> None:
        super().__init__(name="query-watcher", daemon=True)
        self._connection, self._pid, self._over = connection, pid, threading.Event()
        self.waits: Counter[str] = Counter()
        self.samples = 0
        self.blocked_s = 0.0
        self.tree: list[tuple[Any, ...]] = []
        self.error = ""

    def run(self) -> None:
        """Sample until the end; a connection that fails ends the sampling, and says so."""
        last = time.monotonic()
        while not self._over.wait(SAMPLE_EVERY_S):
            try:
                rows = query(self._connection, _WAITS, (self._pid,))
                now = time.monotonic()
                for wait, blocked in rows:
                    self.samples += 1
                    self.waits[str(wait)] += 1
                    if blocked:
                        self.blocked_s += now - last
                        if not self.tree:
                            self.tree = sorted(query(self._connection, _TREE, (self._pid, self._pid, self._pid)), key=lambda row: -row[0])
                last = now
            except CannotMeasure as error:
                self.error = error.why or error.what
                return

    def stop(self) -> None:
        """End it and wait."""
        self._over.set()
        self.join(2.0)


def measure(connection: Connection, watcher_connection: Connection, text: str, values: tuple[str, ...], timeout_s: float, runs: int = 3) -> QueryRun:
    """Execute the query up to ``runs`` times within ``timeout_s`` in all. A lock that is not had within 2 s, or a timeout, ends it with what was seen."""
    watcher = Watcher(watcher_connection, connection.info.backend_pid)
    watcher.start()
    plans: list[dict[str, Any]] = []
    stopped = False
    began = time.monotonic()
    try:
        for _ in range(min(runs, RUNS_MAX)):
            left_s = timeout_s - (time.monotonic() - began)
            if plans and left_s < 1.5 * _time_ms(plans[-1]) / 1000:
                break
            try:
                plans.append(_run(connection, text, values, max(0.1, left_s)))
            except CannotMeasure:
                if connection.closed or connection.broken or not (watcher.blocked_s or time.monotonic() - began >= 0.9 * min(timeout_s, LOCK_TIMEOUT_S)):
                    raise
                stopped = True
                break
    finally:
        watcher.stop()
    best = min(plans, key=_time_ms, default=None)
    nodes = tuple(flatten(best["Plan"])) if best else ()
    return QueryRun(
        times_ms=tuple(round(_time_ms(plan), 3) for plan in plans),
        planning_ms=best.get("Planning Time", 0.0) if best else 0.0,
        nodes=nodes,
        pages_read_first=int(plans[0]["Plan"].get("Shared Read Blocks", 0)) if plans else 0,
        pages_read_best=int(best["Plan"].get("Shared Read Blocks", 0)) if best else 0,
        waits=dict(watcher.waits.most_common()),
        samples=watcher.samples,
        lock_wait_ms=watcher.blocked_s * 1000,
        blockers=tuple(_line(row) for row in watcher.tree),
        timed_out=stopped,
        rows=float(best["Plan"].get("Actual Rows", 0)) if best else 0.0,
    )


def _run(connection: Connection, text: str, values: tuple[str, ...], left_s: float) -> dict[str, Any]:
    with readonly_transaction(connection):
        connection.execute(f"SET LOCAL statement_timeout = {int(left_s * 1000)}".encode())
        connection.execute(f"SET LOCAL lock_timeout = {int(min(LOCK_TIMEOUT_S, left_s) * 1000)}".encode())
        return plan_of(connection, f"EXPLAIN (ANALYZE, BUFFERS, VERBOSE, FORMAT JSON) {text}", values)


def _time_ms(plan: dict[str, Any]) -> float:
    return float(plan.get("Execution Time", 0.0))


def _line(row: tuple[Any, ...]) -> str:
    _, pid, blocks, state, age_s, application, text, locks = row
    told = f"{normalize(text)}" if text and not text.startswith("<") else "its statement is not visible to this role"
    parts = [f"pid {pid} ({application or 'no name'}, {state}" + (f", transaction open for {age_s} s" if age_s >= 0 else "") + f") blocks pid {blocks}", told]
    return ": ".join([*parts, f"holds {locks}"] if locks else parts)


def flatten(node: dict[str, Any], depth: int = 0, processes: int = 1) -> Iterator[NodeRun]:
    """The nodes of an executed plan, top down, values hidden. ``processes``: how many ran it side by side, whose times add up in the plan but not on the clock."""
    loops = float(node.get("Actual Loops", 1)) or 1.0
    children = node.get("Plans", [])
    below = int(node.get("Workers Launched", 0)) + 1 if str(node["Node Type"]).startswith("Gather") else processes
    own = float(node.get("Actual Total Time", 0.0)) * loops / processes
    own -= sum(float(c.get("Actual Total Time", 0.0)) * float(c.get("Actual Loops", 1)) / below for c in children)
    schema = node.get("Schema", "")
    condition = str(node.get("Index Cond") or node.get("Recheck Cond") or node.get("Hash Cond") or node.get("Merge Cond") or node.get("Join Filter") or "")

    def of_children(name: str) -> float:
        return sum(float(child.get(name, 0)) for child in children)

    yield NodeRun(
        node_type=str(node["Node Type"]),
        depth=depth,
        relation=f"{schema}.{node['Relation Name']}" if schema and "Relation Name" in node else str(node.get("Relation Name", "")),
        alias=str(node.get("Alias", "")),
        index=str(node.get("Index Name", "")),
        condition=hide_values(condition),
        filter=hide_values(str(node.get("Filter", ""))),
        rows_estimated=float(node.get("Plan Rows", 0)),
        rows_actual=float(node.get("Actual Rows", 0)),
        loops=loops,
        removed=(
            float(node.get("Rows Removed by Filter", 0))
            + float(node.get("Rows Removed by Index Recheck", 0))
            + float(node.get("Rows Removed by Join Filter", 0))
        )
        * loops,
        own_ms=max(0.0, own),
        heap_fetches=float(node.get("Heap Fetches", 0)) * loops,
        pages_hit=int(max(0, node.get("Shared Hit Blocks", 0) - of_children("Shared Hit Blocks"))),
        pages_read=int(max(0, node.get("Shared Read Blocks", 0) - of_children("Shared Read Blocks"))),
        temp_pages=int(max(0, node.get("Temp Written Blocks", 0) - of_children("Temp Written Blocks"))),
        read_ms=max(0.0, float(node.get("Shared I/O Read Time", node.get("I/O Read Time", 0.0))) - of_children("Shared I/O Read Time")),
        subplans_removed=int(node.get("Subplans Removed", 0)),
        children=len(children),
        sort_key=tuple(str(key) for key in node.get("Sort Key", ())),
        detail=_detail(node),
    )
    for child in children:
        yield from flatten(child, depth + 1, below)


def _detail(node: dict[str, Any]) -> str:
    if "Sort Method" in node:
        return f"{node['Sort Method']}, {node.get('Sort Space Used', 0)} kB {node.get('Sort Space Type', '')}".strip()
    if node.get("Hash Batches", 1) > 1 or node.get("HashAgg Batches", 0) > 1:
        return f"{max(node.get('Hash Batches', 0), node.get('HashAgg Batches', 0))} batches"
    return ""
