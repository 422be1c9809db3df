"""A build that others queue behind gives way, and leaves nothing invalid: on a real PostgreSQL, with a migration that waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from perfloop.change import building
from perfloop.errors import CannotMeasure

from .conftest import Postgres, wait_for

CREATE = "CREATE INDEX CONCURRENTLY idx_big_a_b ON big (a, b)"


@contextmanager
def old_snapshot(postgres: Postgres) -> Iterator[psycopg.Connection]:
    with postgres.connect() as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT * FROM beside")
        yield other
        other.execute("ROLLBACK")


def build(postgres: Postgres) -> int:
    with postgres.connect() as busy:
        oid = busy.execute("SELECT 'big'::regclass::oid::bigint").fetchone()[0]  # type: ignore[index]
        return building.build(postgres.connect, busy, CREATE, oid, ("public", "idx_big_a_b"), time.monotonic() + 60)


def migrate(postgres: Postgres) -> threading.Thread:
    """Queues an ALTER TABLE behind the build as soon as that waits."""

    def work() -> None:
        with postgres.connect() as connection:
            wait_for(lambda: connection.execute("SELECT 1 FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting%'").fetchone())
            connection.execute("ALTER TABLE big ALTER t SET DEFAULT 'x'")

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_it_gives_way_to_a_migration_and_is_tried_again(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "QUEUE_MAX_S", 0.5)
    monkeypatch.setattr(building, "PAUSE_S", 0.2)
    with old_snapshot(postgres) as other:
        migration = migrate(postgres)
        ended = threading.Timer(1.5, lambda: other.execute("COMMIT"))  # then the second or third try goes through
        ended.start()
        tries = build(postgres)
        migration.join(10)
        ended.join()
    assert not migration.is_alive()
    assert tries > 1
    assert postgres.indexes() == ["big_pkey", "idx_big_a_b"]


def test_where_others_wait_each_time_it_says_who_and_leaves_nothing(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "QUEUE_MAX_S", 0.3)
    monkeypatch.setattr(building, "TRIES_MAX", 1)
    with old_snapshot(postgres):
        migration = migrate(postgres)
        with pytest.raises(CannotMeasure) as error:
            build(postgres)
        migration.join(10)
        assert not migration.is_alive()
    assert "waited for it" in error.value.why
    assert postgres.indexes() == ["big_pkey"]


def test_an_index_that_is_valid_is_never_dropped_as_a_leftover(postgres: Postgres) -> None:
    with postgres.connect() as busy:
        busy.execute("CREATE INDEX idx_big_a_b ON big (a, b)")
        oid = busy.execute("SELECT 'big'::regclass::oid::bigint").fetchone()[0]  # type: ignore[index]
        building.drop_invalid(postgres.connect, busy, oid, ("public", "idx_big_a_b"))
    assert postgres.indexes() == ["big_pkey", "idx_big_a_b"]


def test_a_build_that_cannot_be_watched_is_cancelled(postgres: Postgres) -> None:
    watchers: list[psycopg.Connection] = []

    @contextmanager
    def connect() -> Iterator[psycopg.Connection]:
        with postgres.connect() as connection:
            watchers.append(connection)
            yield connection

    with old_snapshot(postgres), postgres.connect() as busy, postgres.connect() as admin:
        oid = busy.execute("SELECT 'big'::regclass::oid::bigint").fetchone()[0]  # type: ignore[index]

        def end_the_watch() -> None:
            wait_for(lambda: admin.execute("SELECT 1 FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting%'").fetchone())
            admin.execute("SELECT pg_terminate_backend(%s)", (watchers[0].info.backend_pid,))

        thread = threading.Thread(target=end_the_watch)
        thread.start()
        with pytest.raises(CannotMeasure) as error:
            building.build(connect, busy, CREATE, oid, ("public", "idx_big_a_b"), time.monotonic() - 1)
        thread.join(10)
    assert "could not be watched" in error.value.why
    assert postgres.indexes() == ["big_pkey"]
