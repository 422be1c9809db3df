"""Causes of one query are pure: each from hand-made evidence, with what it must not be taken for."""

from __future__ import annotations

import re
from typing import Any

import pytest

from perfloop.change.ddl_lint import lint
from perfloop.diagnose.query.judge import PAGES, judge, where
from perfloop.model.query import Condition, FactorTried, NodeRun, QueryEvidence, QueryRun, TableNow

ORDERS = TableNow(
    name="public.orders", rows=100_000, pages=2_000, rows_then=100_000, pages_then=2_000, live_rows=100_000, last_analyze="2026-11-23T10:00:00Z", visible_share=1.0,
    indexes=("CREATE INDEX orders_status ON public.orders USING btree (status)", "CREATE INDEX orders_created ON public.orders USING btree (created)", "CREATE UNIQUE INDEX orders_pkey ON public.orders USING btree (id)"),
)  # fmt: skip
SCAN = NodeRun(
    node_type="Seq Scan", relation="public.orders", alias="orders", filter="(status = ?::text)", rows_estimated=50, rows_actual=50, removed=99_950, own_ms=20.0
)
FAST = NodeRun(
    node_type="Index Scan", relation="public.orders", alias="orders", index="orders_pkey", condition="(id = ?)", rows_estimated=1, rows_actual=1, own_ms=0.05
)
STATUS = Condition(table="public.orders", column="status", text="(orders.status = ?)", expected=0.0005, seen=0.0005, column_type="text")


def evidence(*nodes: NodeRun, **more: Any) -> QueryEvidence:
    run = more.pop("run", {})
    times = run.pop("times_ms", (25.0, 21.0, 20.0) if any(node.own_ms > 1 for node in nodes) else (0.07, 0.06, 0.06))
    return QueryEvidence(
        text="SELECT * FROM orders WHERE status = ?",
        fingerprint="f",
        run=QueryRun(times_ms=times, nodes=nodes, **run),
        tables=more.pop("tables", (ORDERS,)),
        **more,
    )


def trial(kind: str, subject: str, detail: str) -> FactorTried:
    return FactorTried(kind=kind, subjects=(subject,), detail=detail, forward=True, backward=True, cost_forward=900.0, cost_backward=8.0)


def wide(node: NodeRun, **changes: Any) -> NodeRun:
    made: NodeRun = node.with_(**changes)
    return made


LOST = ORDERS.with_(columns_without_statistics=("status",))
OVER = wide(SCAN, rows_estimated=30_000)
CASES: dict[str, tuple[str, QueryEvidence]] = {
    "lost statistics": (
        "statistics-missing",
        evidence(OVER, tables=(LOST,), conditions=(STATUS.with_(has_statistics=False),), trials=(trial("statistics", "public.orders.status", "lost: there are none now"),)),
    ),
    "lost statistics, no snapshot": ("statistics-missing", evidence(OVER, tables=(LOST,), conditions=(STATUS.with_(has_statistics=False),))),
    "stale": (
        "statistics-stale",
        evidence(wide(SCAN, rows_estimated=1, rows_actual=40_000, removed=60_000), tables=(ORDERS.with_(modified_since_analyze=40_000),), conditions=(STATUS.with_(expected=0.00001, seen=0.4),)),
    ),
    "rare value": ("rare-value", evidence(OVER, conditions=(STATUS.with_(expected=0.3, in_common_values=False),), trials=(trial("statistics", "public.orders.status", "changed"),))),
    "columns together": (
        "correlated-columns",
        evidence(
            wide(SCAN, rows_estimated=100, rows_actual=10_000, removed=90_000),
            conditions=(STATUS.with_(expected=0.1, seen=0.1), STATUS.with_(column="kind", text="(kind = ?)", expected=0.1, seen=0.1)),
        ),
    ),
    "columns together, by parallel workers": (
        "correlated-columns",
        evidence(
            NodeRun(node_type="Gather", own_ms=1.0, children=1, rows_estimated=120, rows_actual=9_900),
            wide(SCAN, depth=1, rows_estimated=40, rows_actual=3_300, loops=3, removed=90_000),
            conditions=(STATUS.with_(expected=0.1, seen=0.1), STATUS.with_(column="kind", text="(kind = ?)", expected=0.1, seen=0.1)),
        ),
    ),
    "index dropped": ("index-dropped", evidence(SCAN, conditions=(STATUS,), trials=(trial("index", "public.orders_kind", "dropped: CREATE INDEX orders_kind ON public.orders USING btree (kind)"),))),
    "index invalid": ("index-invalid", evidence(SCAN, conditions=(STATUS,), trials=(trial("index", "public.orders_kind", "it became invalid: CREATE INDEX orders_kind ON public.orders USING btree (kind)"),))),
    "index changed": ("index-changed", evidence(SCAN, trials=(trial("index", "public.orders_kind", "changed: CREATE INDEX a ON t USING btree (k) → CREATE INDEX a ON t USING btree (l)"),))),
    "implicit cast": ("implicit-cast", evidence(SCAN, conditions=(STATUS.with_(column="id", text="((id)::numeric = ?)", cast="numeric", column_type="integer"),))),
    "function": ("function-on-column", evidence(SCAN, conditions=(STATUS.with_(text="(lower(status) = ?)", function="lower"),))),
    "leading wildcard": ("function-on-column", evidence(SCAN, conditions=(STATUS.with_(text="(status ~~ ?)", operator="~~", pattern="contains"),))),
    "order by limit": (
        "order-limit-index",
        evidence(
            NodeRun(node_type="Limit", own_ms=0.1, rows_estimated=5, rows_actual=5, children=1),
            NodeRun(node_type="Index Scan", depth=1, relation="public.orders", index="orders_created", filter="(note = ?)", rows_estimated=500, rows_actual=5, removed=80_000, own_ms=19.0),
            conditions=(STATUS.with_(column="note", text="(note = ?)"),),
        ),
    ),
    "generic plan": ("generic-plan", evidence(FAST, generic_ms=30.0, plan_cache_mode="auto")),
    "setting": ("setting-changed", evidence(SCAN, trials=(trial("setting", "random_page_cost", "1.1 → 400"),))),
    "visibility map": (
        "visibility-map",
        evidence(NodeRun(node_type="Index Only Scan", relation="public.orders", index="orders_created", rows_estimated=50_000, rows_actual=50_000, heap_fetches=45_000, own_ms=18.0)),
    ),
    "pruning": (
        "pruning-lost",
        evidence(
            *(wide(SCAN, relation=f"public.event_{n}", rows_actual=0 if n else 50, removed=9_000, own_ms=3.0) for n in range(6)),
            tables=(TableNow(name="public.event", partitions=6, partition_names=tuple(f"public.event_{n}" for n in range(6)), partition_key=("day",)),),
            conditions=(Condition(table="public.event_1", column="day", text="((day)::text = ?)", cast="text", column_type="date"),),
        ),
    ),
    "lock": ("lock-wait", evidence(run={"times_ms": (), "lock_wait_ms": 2_000.0, "timed_out": True, "blockers": ("pid 7 (app, idle in transaction) blocks pid 9",)})),
    "growth": (
        "data-growth",
        evidence(wide(SCAN, removed=0, rows_actual=400_000, rows_estimated=400_000), tables=(ORDERS.with_(rows=400_000, live_rows=400_000, pages=8_000),), time_then_ms=5.0),
    ),
    "bloat": ("table-bloat", evidence(wide(SCAN, removed=0, rows_actual=100_000, rows_estimated=100_000), tables=(ORDERS.with_(pages=16_000, dead_rows=700_000),), time_then_ms=4.0)),
    "spill": ("spill", evidence(NodeRun(node_type="Sort", own_ms=15.0, temp_pages=4_000, detail="external merge"), work_mem_kb=1024)),
    "cold cache": ("cold-cache", evidence(wide(SCAN, removed=0), run={"times_ms": (300.0, 22.0, 20.0), "pages_read_first": 2_000, "pages_read_best": 0})),
    "no index": ("missing-index", evidence(wide(SCAN, filter="(kind = ?)"), conditions=(STATUS.with_(column="kind", text="(kind = ?)"),))),
    "n plus one": ("n-plus-one", evidence(FAST, calls=5_000, mean_ms=0.06, rows_per_call=1.0, parent="SELECT * FROM lists", parent_ratio=50.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_cause_is_named_first(name: str) -> None:
    expected, seen = CASES[name]
    found = judge(seen)
    assert [finding.rule for finding in found][:1] == [expected]
    assert found[0].evidence
    assert found[0].fix
    assert found[0].disproof
    assert expected in (*PAGES, "missing-index", "n-plus-one")  # those two are rules, with pages of their own
    for statement in re.findall(r"(?:CREATE|DROP|ALTER|REINDEX|VACUUM|ANALYZE)[^;]*;", found[0].fix):
        if "VACUUM FULL" not in statement and "DROP INDEX CONCURRENTLY" not in statement:
            assert lint(statement) == ()


HEALTHY = {
    "a point query": evidence(FAST),
    "a whole table that must be read": evidence(wide(SCAN, filter="", removed=0, rows_actual=100_000, rows_estimated=100_000)),
    "a plan that changed without harm": evidence(SCAN, trials=(trial("statistics", "public.orders.kind", "changed"),), time_then_ms=19.0, plan_changed=True),
    "an index dropped without harm": evidence(FAST, trials=(trial("index", "public.x", "dropped: CREATE INDEX x ON t USING btree (a)"),), time_then_ms=0.06),
    "a text compared as text": evidence(wide(FAST), conditions=(STATUS.with_(cast="text", column_type="character varying(30)"),)),
    "stale statistics that mislead nobody": evidence(FAST, tables=(ORDERS.with_(modified_since_analyze=60_000),), conditions=(STATUS,)),
    "a generic plan that is as fast": evidence(FAST, generic_ms=0.07, plan_cache_mode="auto"),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_what_is_healthy_has_no_cause(name: str) -> None:
    assert judge(HEALTHY[name]) == ()


def test_where_the_time_goes_adds_up() -> None:
    shares = where(evidence(SCAN, NodeRun(node_type="Sort", own_ms=0.0)))
    assert shares["Seq Scan on public.orders"] == pytest.approx(1.0)
    assert where(evidence()) == {}
