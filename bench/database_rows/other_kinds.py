"""Expressions, GIN and BRIN: sizes and costs are stated beforehand as a range, then the index is really built, analysed, and looked at.

Each index is asked with several queries of several values; the range must hold what PostgreSQL then says. Tables: TPC-H, and documents, tags, words and events made here.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

import psycopg

from bench.database_tools import tpch
from bench.database_tools.options import Options
from bench.database_tools.server import Server
from bench.table import Row
from perfloop.twin.build import Twin, explain
from perfloop.twin.hidden import Hidden
from perfloop.twin.snapshot import take

EXPRESSIONS = (
    ("customer", "lower(c_name)"),
    ("customer", "substring(c_phone from 1 for 2)"),
    ("customer", "abs(c_acctbal)"),
    ("customer", "coalesce(c_mktsegment, 'none')"),
    ("orders", "date_trunc('month', o_orderdate::timestamp)"),
    ("orders", "extract(year from o_orderdate)"),
    ("orders", "length(o_comment)"),
    ("orders", "(o_totalprice / 1000)::int"),
    ("orders", "md5(o_clerk)"),
    ("orders", "o_custkey % 100"),
    ("orders", "upper(o_orderstatus)"),
    ("part", "upper(p_brand)"),
    ("part", "left(p_type, 5)"),
    ("part", "reverse(p_name)"),
    ("lineitem", "round(l_extendedprice)"),
    ("lineitem", "l_quantity::int"),
    ("lineitem", "lower(l_shipmode)"),
    ("lineitem", "date_trunc('week', l_shipdate::timestamp)"),
    ("supplier", "s_acctbal > 0"),
    ("partsupp", "ps_availqty / 10"),
)
ENDS = (0.1, 0.5, 0.97)  # quantiles of the expression's values that the queries ask for

MADE = """
create table paper (id int primary key, tags text[], numbers int[], words tsvector, doc jsonb, created timestamptz not null, region text);
insert into paper select i,
  array(select 'tag' || floor(2000 * pow(random(), 3))::int from generate_series(1, 2 + i % 5)),
  array(select floor(50000 * random())::int from generate_series(1, i % 7)),
  (select to_tsvector('simple', string_agg('w' || floor(5000 * pow(random(), 2))::int, ' ')) from generate_series(1, 12 + i % 9)),
  jsonb_build_object('state', (array['new','paid','sent','back'])[1 + i % 4], 'user', i % 3000, 'address', jsonb_build_object('zip', 10000 + i % 800, 'city', 'c' || i % 90)) || case when i % 10 = 0 then '{"flag": true}'::jsonb else '{}'::jsonb end,
  timestamptz '2025-01-01' + i * interval '40 second' + random() * interval '1 hour', 'r' || (i / 4000) from generate_series(1, 80000) i;
create table item (id int primary key, labels text[], facts jsonb, body tsvector, seen date not null);
insert into item select i, array(select 'l' || (i * 7 + k * k) % 40 from generate_series(1, 1 + i % 3) k), jsonb_build_object('kind', i % 12, 'size', (i * 37) % 500, 'name', 'n' || i),
  to_tsvector('simple', 'x' || i % 300 || ' y' || i % 77 || ' z' || i), date '2024-01-01' + i / 100 from generate_series(1, 30000) i;
create table event (at timestamptz not null, source int not null, value float8 not null, note text);
insert into event select timestamptz '2025-06-01' + i * interval '3 second', i % 50, (i::bigint * 7919) % 100000, 'n' || i % 1000 from generate_series(1, 400000) i;
"""
GIN = (
    ("paper", "gin (tags)", ("tags @> '{tag5}'", "tags @> '{tag900}'", "tags && '{tag1,tag2}'", "tags @> '{tag1,tag40}'")),
    ("paper", "gin (numbers)", ("numbers @> '{77}'", "numbers && '{1,2,3}'")),
    ("paper", "gin (words)", ("words @@ 'w3'::tsquery", "words @@ 'w10 & w20'::tsquery", "words @@ 'w4000'::tsquery")),
    ("paper", "gin (doc)", ("""doc @> '{"state": "paid"}'""", """doc @> '{"user": 17}'""", "doc ? 'flag'")),
    ("paper", "gin (doc jsonb_path_ops)", ("""doc @> '{"user": 17}'""", """doc @> '{"address": {"zip": 10005}}'""")),
    ("item", "gin (labels)", ("labels @> '{l7}'", "labels && '{l1,l2}'")),
    ("item", "gin (facts)", ("""facts @> '{"kind": 3}'""", "facts ? 'size'")),
    ("item", "gin (facts jsonb_path_ops)", ("""facts @> '{"size": 37}'""", """facts @> '{"kind": 3, "size": 37}'""")),
    ("item", "gin (body)", ("body @@ 'x7'::tsquery", "body @@ 'y5 & x9'::tsquery")),
    ("item", "gin (labels, facts)", ("labels @> '{l7}'", """labels @> '{l7}' and facts @> '{"kind": 3}'""")),
)
BRIN = (
    ("event", "brin (at)", ("at between '2025-06-03' and '2025-06-04'", "at > '2025-06-14'")),
    ("event", "brin (at) with (pages_per_range = 16)", ("at between '2025-06-03' and '2025-06-04'", "at < '2025-06-01 05:00'")),
    ("event", "brin (at, source)", ("at > '2025-06-13' and source = 7", "source = 3")),
    ("event", "brin (value)", ("value > 99000", "value between 10 and 20")),
    ("event", "brin (note)", ("note = 'n7'",)),
    ("paper", "brin (created)", ("created > '2025-02-05'", "created between '2025-01-02' and '2025-01-03'")),
    ("paper", "brin (region) with (pages_per_range = 8)", ("region = 'r7'",)),
    ("item", "brin (seen) with (pages_per_range = 4)", ("seen = '2024-06-01'", "seen > '2024-10-01'")),
    ("lineitem", "brin (l_orderkey)", ("l_orderkey between 1000 and 3000",)),
    ("lineitem", "brin (l_shipdate) with (pages_per_range = 32)", ("l_shipdate > '1998-11-01'",)),
    ("orders", "brin (o_orderkey, o_totalprice)", ("o_orderkey < 5000", "o_orderkey < 5000 and o_totalprice > 300000")),
    ("customer", "brin (c_custkey, c_name)", ("c_custkey between 100 and 200",)),
)


@dataclass
class Case:
    """One index: what was stated, and what came. Costs by query."""

    table: str
    using: str
    queries: list[str] = field(default_factory=list)
    index: Hidden | None = None
    stated: list[tuple[float, float, float]] = field(default_factory=list)
    real: list[float] = field(default_factory=list)
    pages: int = 0

    @property
    def ddl(self) -> str:
        return f"create index on {self.table} using {self.using}"


def rows(options: Options) -> list[Row]:
    """All rows of the group."""
    with Server(options.work, "pg", 15) as server:
        name = tpch.ensure(server, options.work)
        with server.connect(database=name) as owner:
            tpch.without_indexes(owner)
            if not owner.execute("select to_regclass('paper')").fetchone()[0]:  # type: ignore[index]
                owner.execute(b"select setseed(0.5)")
                with owner.transaction():
                    owner.execute(MADE.encode())
                owner.execute(b"grant select on all tables in schema public to reader")
            owner.execute(b"vacuum analyze")
            groups = {
                "expression": [Case(table, f"btree (({expression}))", _queries(owner, table, expression)) for table, expression in EXPRESSIONS],
                "GIN": [Case(table, using, [f"select * from {table} where {where}" for where in wheres]) for table, using, wheres in GIN],
                "BRIN": [Case(table, using, [f"select count(*) from {table} where {where}" for where in wheres]) for table, using, wheres in BRIN],
            }
            every = [case for cases in groups.values() for case in cases]
            _state(server, name, every)
            for case in sorted(every, key=lambda one: one.using.startswith("btree")):  # those with an ANALYZE last
                _build(owner, case)
            owner.execute(b"analyze")
    return [row for what, cases in groups.items() for row in _rows(what, cases)]


def _queries(owner: psycopg.Connection[Any], table: str, expression: str) -> list[str]:
    found = []
    for end in ENDS:
        row = owner.execute(
            f"select quote_literal(v), pg_typeof(v)::text from (select percentile_disc({end}) within group (order by x) as v from (select {expression} as x from {table}) s) t".encode()
        ).fetchone()
        assert row is not None
        value = f"{row[0]}::{row[1]}"
        found.append(f"select * from {table} where ({expression}) = {value}")
        if row[1] != "boolean" and end != 0.5:
            found.append(f"select count(*) from {table} where ({expression}) {'<' if end < 0.5 else '>'} {value}")
    return found


def _state(server: Server, name: str, cases: list[Case]) -> None:
    """What the twin says before anything is built, through a role with SELECT only; no row is sampled."""
    with server.connect("reader", name) as connection:
        snapshot = take(connection, tuple(dict.fromkeys(case.table for case in cases)))
    with Twin(snapshot) as twin:
        for case, index in zip(cases, twin.add([case.ddl for case in cases]), strict=True):
            case.index = index
            case.stated = [twin.range(index, query) for query in case.queries]


def _build(owner: psycopg.Connection[Any], case: Case) -> None:
    owner.execute(case.ddl.replace("create index", "create index really").encode())
    if case.using.startswith("btree"):  # an expression has no statistics before; the columns of the others have them already
        owner.execute(f"analyze {case.table}".encode())
    case.pages = owner.execute("select pg_relation_size('really') / 8192").fetchone()[0]  # type: ignore[index]
    case.real = [explain(owner, query)["Total Cost"] for query in case.queries]
    owner.execute("drop index really")


def _rows(what: str, cases: list[Case]) -> list[Row]:
    pairs = [
        (case, query, low, best, high, real) for case in cases for query, (low, best, high), real in zip(case.queries, case.stated, case.real, strict=True)
    ]
    held = [low <= real <= high for _, _, low, _, high, real in pairs]
    missed = [
        f"{case.using}: {query.partition(' where ')[2]}: {low:.0f}–{high:.0f}, came {real:.0f}"
        for (case, query, low, _, high, real), ok in zip(pairs, held, strict=True)
        if not ok
    ]
    off = [abs(best / real - 1) for _, _, _, best, _, real in pairs]
    sized = [case.index.low <= case.pages <= case.index.high for case in cases if case.index]
    wrong = [
        f"{case.table} {case.using}: {case.index.low}–{case.index.high} pages, came {case.pages}"
        for case in cases
        if case.index and not case.index.low <= case.pages <= case.index.high
    ]
    wide = statistics.median(case.index.high / max(1, case.index.low) for case in cases if case.index)
    span = statistics.median(high / low for _, _, low, _, high, _ in pairs)
    return [
        Row(
            f"what-if, {what}: cost within the range stated beforehand",
            round(100 * sum(held) / len(held), 1),
            "%",
            ">= 90",
            sum(held) >= 0.9 * len(held),
            why=f"{len(pairs)} pairs of {len(cases)} indexes and their queries; the range spans a factor of {span:.2f} in the median; expected cost off by {statistics.median(off):.1%} in the median; missed: {'; '.join(missed[:4]) or 'none'}",
        ),
        Row(
            f"what-if, {what}: size within the range stated beforehand",
            round(100 * sum(sized) / len(sized), 1),
            "%",
            ">= 90",
            sum(sized) >= 0.9 * len(sized),
            why=f"{len(cases)} indexes; the range spans a factor of {wide:.2f} in the median; expected size off by {statistics.median([abs(case.index.pages / case.pages - 1) for case in cases if case.index]):.1%} in the median; missed: {'; '.join(wrong[:4]) or 'none'}",
        ),
    ]
