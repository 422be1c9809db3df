"""What-if indexes against the same indexes really built on TPC-H, PostgreSQL 15; HypoPG asked the same in the same run."""

from __future__ import annotations

import re
import statistics
import subprocess
from dataclasses import dataclass, field
from typing import Any

import psycopg

from bench.database_tools import hypopg, tpch
from bench.database_tools.options import Options
from bench.database_tools.server import Server
from bench.table import Row
from perfloop.twin import joint
from perfloop.twin.build import Twin, explain
from perfloop.twin.hidden import Hidden
from perfloop.twin.snapshot import take

PLAIN = [
    "lineitem(l_shipdate)",
    "lineitem(l_partkey)",
    "lineitem(l_suppkey)",
    "lineitem(l_quantity)",
    "lineitem(l_extendedprice)",
    "lineitem(l_discount)",
    "lineitem(l_commitdate)",
    "lineitem(l_receiptdate)",
    "lineitem(l_returnflag)",
    "lineitem(l_shipmode)",
    "lineitem(l_shipinstruct)",
    "lineitem(l_linestatus)",
    "orders(o_custkey)",
    "orders(o_orderdate)",
    "orders(o_orderstatus)",
    "orders(o_orderpriority)",
    "orders(o_totalprice)",
    "orders(o_clerk)",
    "customer(c_mktsegment)",
    "customer(c_nationkey)",
    "customer(c_acctbal)",
    "customer(c_phone)",
    "customer(c_name)",
    "part(p_brand)",
    "part(p_type)",
    "part(p_size)",
    "part(p_container)",
    "part(p_name)",
    "partsupp(ps_suppkey)",
    "partsupp(ps_supplycost)",
    "partsupp(ps_availqty)",
    "supplier(s_nationkey)",
    "supplier(s_acctbal)",
    "supplier(s_name)",
    "nation(n_name)",
    "lineitem(l_partkey,l_quantity)",
    "lineitem(l_orderkey,l_suppkey)",
    "lineitem(l_orderkey,l_linenumber,l_partkey)",
    "lineitem(l_shipdate,l_discount,l_quantity,l_extendedprice)",
    "orders(o_orderdate,o_orderkey)",
    "orders(o_custkey,o_orderkey)",
    "part(p_partkey,p_type)",
    "partsupp(ps_partkey,ps_supplycost)",
    "customer(c_nationkey,c_custkey)",
]
INCLUDE = [
    "lineitem(l_orderkey) include (l_suppkey,l_extendedprice,l_discount)",
    "lineitem(l_partkey) include (l_quantity,l_extendedprice)",
    "lineitem(l_shipdate) include (l_suppkey)",
    "orders(o_orderdate) include (o_orderkey,o_custkey)",
    "orders(o_custkey) include (o_totalprice)",
    "part(p_type) include (p_partkey)",
    "partsupp(ps_suppkey) include (ps_supplycost)",
    "customer(c_mktsegment) include (c_custkey)",
]
PARTIAL = [
    "orders(o_orderdate) where o_orderstatus = 'F'",
    "lineitem(l_partkey) where l_quantity < 24",
    "lineitem(l_orderkey) where l_returnflag = 'R'",
    "lineitem(l_shipdate) where l_shipmode in ('MAIL', 'SHIP')",
    "part(p_partkey) where p_size < 16",
    "customer(c_custkey) where c_acctbal > 5000",
    "orders(o_custkey) where o_orderdate >= date '1995-01-01'",
    "partsupp(ps_partkey) where ps_availqty > 5000",
]
#: neither key is unique with the other, and TPC-H makes them depend on each other: how many pairs there are is in no statistic
CORRELATED = [
    "lineitem(l_suppkey,l_partkey)",
    "lineitem(l_shipdate,l_receiptdate)",
    "lineitem(l_shipdate,l_commitdate)",
    "lineitem(l_returnflag,l_shipdate)",
    "lineitem(l_returnflag,l_receiptdate)",
    "lineitem(l_linestatus,l_shipdate)",
    "lineitem(l_partkey,l_suppkey)",
    "lineitem(l_returnflag,l_linestatus)",
    "orders(o_orderstatus,o_orderdate)",
    "part(p_brand,p_mfgr)",
    "part(p_mfgr,p_brand,p_container)",
    "orders(o_orderdate,o_orderstatus)",
]


@dataclass
class Asked:
    """One candidate: what the twin and HypoPG say, and what was then measured; costs by query number."""

    ddl: str
    real: dict[int, float] = field(default_factory=dict)
    twin: dict[int, float] = field(default_factory=dict)
    hypo: dict[int, float] = field(default_factory=dict)
    real_pages: int = 0
    index: Hidden | None = None
    hypo_pages: int = 0

    @property
    def table(self) -> str:
        return re.split(r"[ (]", self.ddl)[0]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(re.search(r"\((.*?)\)", self.ddl)[1].split(","))  # type: ignore[index]


def rows(options: Options) -> list[Row]:
    """All rows of the group."""
    with Server(options.work, "pg", 15) as server:
        name = tpch.ensure(server, options.work)
        main = [Asked(ddl) for ddl in (*PLAIN, *INCLUDE, *PARTIAL)]
        correlated = [Asked(ddl) for ddl in CORRELATED]
        stated = [Asked(ddl) for ddl in CORRELATED]
        _ask_twin(server, name, [*main, *correlated], True)
        _ask_twin(server, name, stated, False)
        with server.connect(database=name) as owner:
            tpch.without_indexes(owner)
            version = _ask_hypopg(owner, options, [*main, *correlated])
            _build(owner, [*main, *correlated])
    for one, other in zip(stated, correlated, strict=True):
        one.real, one.real_pages = other.real, other.real_pages
    return [*_accuracy(main, "plain, INCLUDE and partial b-trees", version), *_accuracy(correlated, "correlated keys, pairs sampled", version), _range(stated)]


def _of_table(asked: Asked) -> dict[int, str]:
    return {number: text for number, text in tpch.queries().items() if re.search(rf"\b{asked.table}\b", text)}


def _ask_twin(server: Server, name: str, candidates: list[Asked], sampled: bool) -> None:
    with server.connect("reader", name) as connection:
        snapshot = take(connection, tpch.TABLES)
        keys = {(f"public.{asked.table}", frozenset(asked.keys), "") for asked in candidates if len(asked.keys) > 1}
        known = joint.sample(connection, snapshot, sorted(keys, key=str)) if sampled else {}
    with Twin(snapshot, joint=known) as twin:
        for asked, index in zip(candidates, twin.add([f"create index on {asked.ddl}" for asked in candidates]), strict=True):
            asked.index = index
            twin.show([index])
            asked.twin = {number: twin.explain(text)["Total Cost"] for number, text in _of_table(asked).items()}


def _ask_hypopg(owner: psycopg.Connection[Any], options: Options, candidates: list[Asked]) -> str:
    try:
        version = hypopg.load(owner, options.work)
    except (subprocess.CalledProcessError, OSError):
        return ""
    for asked in candidates:
        oid = owner.execute("select indexrelid from hypopg_create_index(%s)", (f"create index on {asked.ddl}",)).fetchone()[0]  # type: ignore[index]
        asked.hypo_pages = owner.execute("select hypopg_relation_size(%s) / 8192", (oid,)).fetchone()[0]  # type: ignore[index]
        asked.hypo = {number: explain(owner, text)["Total Cost"] for number, text in _of_table(asked).items()}
        owner.execute("select hypopg_reset()")
    owner.execute("drop schema hypo cascade")
    return version


def _build(owner: psycopg.Connection[Any], candidates: list[Asked]) -> None:
    owner.execute("set search_path = public")
    for asked in candidates:
        owner.execute(f"create index really on {asked.ddl}".encode())
        asked.real_pages = owner.execute("select pg_relation_size('really') / 8192").fetchone()[0]  # type: ignore[index]
        asked.real = {number: explain(owner, text)["Total Cost"] for number, text in _of_table(asked).items()}
        owner.execute("drop index really")


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def _accuracy(candidates: list[Asked], what: str, version: str) -> list[Row]:
    def costs(which: str) -> list[float]:
        return [abs(getattr(asked, which)[number] / real - 1) for asked in candidates for number, real in asked.real.items() if getattr(asked, which)]

    def sizes(pages: Any) -> list[float]:
        return [abs(pages(asked) / asked.real_pages - 1) for asked in candidates]

    ours, theirs = costs("twin"), costs("hypo")
    our_sizes = sizes(lambda asked: asked.index.pages)
    their_sizes = sizes(lambda asked: asked.hypo_pages) if version else []
    against = f"HypoPG {version}" if version else ""
    worst = max(candidates, key=lambda asked: max(abs(asked.twin[number] / real - 1) for number, real in asked.real.items()))
    count = f"{len(candidates)} indexes, {len(ours)} pairs of an index and a query on its table; worst {max(ours):.2%} ({worst.ddl})"
    return [
        Row(
            f"what-if against really built, {what}: cost error of a query, p95",
            round(_p95(ours) * 100, 3),
            "%",
            "<= 1",
            _p95(ours) <= 0.01,
            against,
            round(_p95(theirs) * 100, 2) if theirs else None,
            why=count + (f"; HypoPG's worst {max(theirs):.0%}" if theirs else "; HypoPG could not be had"),
        ),
        Row(
            f"what-if against really built, {what}: size error, p95",
            round(_p95(our_sizes) * 100, 2),
            "%",
            "<= 10",
            _p95(our_sizes) <= 0.1,
            against,
            round(_p95(their_sizes) * 100, 1) if their_sizes else None,
            why=f"worst {max(our_sizes):.1%}" + (f"; HypoPG's worst {max(their_sizes):.0%}" if their_sizes else ""),
        ),
    ]


def _range(candidates: list[Asked]) -> Row:
    held = [asked.index.low * 0.98 - 1 <= asked.real_pages <= asked.index.high * 1.02 + 1 for asked in candidates if asked.index]
    wide = statistics.median(asked.index.high / max(1, asked.index.low) for asked in candidates if asked.index)
    return Row(
        "correlated keys, nothing sampled: size within the range stated beforehand",
        round(100 * sum(held) / len(held), 1),
        "%",
        ">= 90",
        sum(held) >= 0.9 * len(held),
        why=f"{len(held)} indexes; the range spans a factor of {wide:.2f} in the median; missed: {', '.join(asked.ddl for asked, ok in zip(candidates, held, strict=True) if not ok) or 'none'}",
    )
