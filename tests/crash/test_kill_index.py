"""kill -9 at every state of the journal, and with the index half built, on a real PostgreSQL."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
import pytest

from perfloop.errors import UndoFailed
from perfloop.loop.recover import roll_back
from perfloop.model.change import ChangeState
from perfloop.store.audit import AuditLog

from .conftest import Crash, Postgres, wait_for


@pytest.mark.parametrize("state", ["journalled", "applying", "note", "applied", "verified", "measured", "undoing"])
def test_killed_at_a_state_no_index_is_left(crash: Crash, postgres: Postgres, tmp_path: Path, state: str) -> None:
    process, said = crash.start({**postgres.order(tmp_path), "die_at": state, "undo": state == "undoing"}, postgres.env)
    died_at = crash.dead(process)
    assert process.returncode == -signal.SIGKILL
    crash.undone(said["change"], died_at)
    assert postgres.indexes() == ["big_pkey"]
    assert postgres.backends() == []


def test_killed_with_the_index_half_built_the_backend_is_ended_first(crash: Crash, postgres: Postgres, tmp_path: Path) -> None:
    with postgres.connect() as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT * FROM beside")  # its snapshot is what the concurrent build waits for
        process, said = crash.start(postgres.order(tmp_path), postgres.env)
        with postgres.connect() as watcher:
            wait_for(lambda: watcher.execute("SELECT 1 FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting%'").fetchone())
        assert postgres.indexes() == ["big_pkey", "idx_big_a_b"]
        assert len(postgres.backends()) == 1
        process.kill()
        crash.undone(said["change"], crash.dead(process))  # while the other transaction is still open
        assert postgres.indexes() == ["big_pkey"]
        assert postgres.backends() == []
        other.execute("ROLLBACK")


def test_interrupted_with_the_index_half_built(crash: Crash, postgres: Postgres, tmp_path: Path) -> None:
    with postgres.connect() as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT * FROM beside")
        process, said = crash.start(postgres.order(tmp_path), postgres.env)
        with postgres.connect() as watcher:
            wait_for(lambda: watcher.execute("SELECT 1 FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting%'").fetchone())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert crash.journal.get(said["change"]).state == ChangeState.UNDONE  # type: ignore[union-attr]
        assert postgres.indexes() == ["big_pkey"]
        crash.check_audit()


def test_kept_then_rolled_back(crash: Crash, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process, said = crash.start({**postgres.order(tmp_path), "toggle": True}, postgres.env)
    assert process.wait(60) == 0, process.stderr.read() if process.stderr else ""
    assert postgres.indexes() == ["big_pkey", "idx_big_a_b"]
    monkeypatch.setenv("PL_TEST_ADMIN", postgres.dsn)
    assert roll_back(said["change"], journal=crash.journal, audit=AuditLog(crash.root)).state == ChangeState.UNDONE
    assert postgres.indexes() == ["big_pkey"]
    crash.check_audit()


def test_an_index_of_that_name_that_somebody_made_otherwise_is_left_alone(crash: Crash, postgres: Postgres, tmp_path: Path) -> None:
    process, said = crash.start({**postgres.order(tmp_path), "hang_s": 60}, postgres.env)
    crash.measuring(process)
    with postgres.connect() as other:
        other.execute("DROP INDEX idx_big_a_b")
        other.execute("CREATE INDEX idx_big_a_b ON big (t)")
    process.kill()
    entry = crash.undone(said["change"], crash.dead(process), state=ChangeState.STUCK)
    assert postgres.indexes() == ["big_pkey", "idx_big_a_b"]
    assert any("DROP INDEX CONCURRENTLY" in command for command in entry.change.undo_commands)


def test_a_database_that_is_gone_leaves_the_change_stuck_with_commands(
    crash: Crash, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perfloop.change.kinds import postgres_index

    process, said = crash.start(postgres.order(tmp_path), postgres.env)
    assert process.wait(60) == 0
    monkeypatch.setenv("PL_TEST_ADMIN", "postgresql://postgres@127.0.0.1:1/postgres")
    monkeypatch.setattr(postgres_index, "CONNECT_MAX_S", 0.5)
    with pytest.raises(UndoFailed) as stuck:
        roll_back(said["change"], journal=crash.journal, audit=AuditLog(crash.root))
    assert "psql" in stuck.value.commands[0]
    assert crash.journal.get(said["change"]).state == ChangeState.STUCK  # type: ignore[union-attr]
    monkeypatch.setenv("PL_TEST_ADMIN", postgres.dsn)
    assert roll_back(said["change"], journal=crash.journal, audit=AuditLog(crash.root)).state == ChangeState.UNDONE
    with psycopg.connect(postgres.dsn) as connection:
        assert connection.execute("SELECT to_regclass('idx_big_a_b')").fetchone() == (None,)
