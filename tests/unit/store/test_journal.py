from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from perfloop.errors import ChangeRefused, StorageError
from perfloop.model.change import Change, ChangeState, JournalEntry
from perfloop.store import database
from perfloop.store import journal as journal_module
from perfloop.store.journal import Journal
from perfloop.store.locks import alive, held, me


def entry(change_id: str = "chg-1", url: str = "http://Shop:80/") -> JournalEntry:
    pid, started_s = me()
    return JournalEntry(
        change=Change(id=change_id, kind="app-setting", title="t"),
        state=ChangeState.PLANNED,
        target_url=url,
        run_id="r",
        project_dir="/p",
        environment="sandbox",
        owner_pid=pid,
        owner_started_s=started_s,
        updated_at="",
    )


def test_a_change_goes_through_its_states_and_is_open_until_decided(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.put(entry())
    assert journal.open_entries() == ()
    journal.set_state("chg-1", ChangeState.APPLYING)
    journal.note("chg-1", {"pid": 7})
    journal.note("chg-1", {"index": "i"})
    assert Journal(tmp_path).open_entries("http://shop:80")[0].backend == {"pid": 7, "index": "i"}
    assert journal.open_entries("http://other:80") == ()
    journal.set_state("chg-1", ChangeState.STUCK, error="why")
    assert journal.get("chg-1").error == "why"  # type: ignore[union-attr]
    journal.set_state("chg-1", ChangeState.UNDONE)
    assert journal.open_entries() == ()
    assert [state for state, _, _ in journal.history("chg-1")] == ["planned", "applying", "stuck", "undone"]


def test_newest_is_undone_first(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for name in ("a", "b"):
        journal.put(entry(name))
        journal.set_state(name, ChangeState.APPLIED)
    assert [found.change.id for found in journal.open_entries()] == ["b", "a"]


def test_a_move_from_another_state_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.put(entry())
    journal.set_state("chg-1", ChangeState.UNDONE)
    with pytest.raises(ChangeRefused, match="is undone"):
        journal.set_state("chg-1", ChangeState.KEPT, expect=(ChangeState.VERIFIED,))
    assert journal.get("chg-1").state == ChangeState.UNDONE  # type: ignore[union-attr]


def test_the_lease_is_bounded_and_counts_down(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.put(entry())
    journal.renew("chg-1", 100_000)
    assert 0 < journal.lease_left_s("chg-1") <= 300
    journal.renew("chg-1", -1)
    assert journal.lease_left_s("chg-1") < 0


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state")
    journal.put(entry())
    for path in (tmp_path / "state").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_one_process_holds_a_target(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with journal.lock("http://a/"), pytest.raises(ChangeRefused, match="in use"), journal.lock("http://A", timeout_s=0.05):
        pass
    with journal.lock("http://a"):
        pass


def test_a_newer_journal_is_refused_and_an_older_one_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.put(entry())
    step = lambda connection: connection.execute("ALTER TABLE changes ADD COLUMN colour TEXT")  # noqa: E731
    monkeypatch.setattr(journal_module, "MIGRATIONS", (*journal_module.MIGRATIONS, step))
    assert journal.get("chg-1") is not None
    with sqlite3.connect(journal.path) as connection:
        assert "colour" in [row[1] for row in connection.execute("PRAGMA table_info(changes)")]
    monkeypatch.undo()
    with pytest.raises(StorageError, match="newer perfloop"):
        journal.get("chg-1")


def test_a_failed_migration_leaves_the_old_schema(tmp_path: Path) -> None:
    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE half (a)")
        connection.execute("no sql")

    path = tmp_path / "d.sqlite"
    with pytest.raises(StorageError), database.opened(path, (lambda c: None, broken)):
        pass
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_garbage_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"garbage" * 1000)
    with pytest.raises(StorageError, match="damaged"):
        Journal(tmp_path).open_entries()


def test_old_closed_changes_are_forgotten(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.put(entry("old"))
    journal.put(entry("open"))
    journal.set_state("open", ChangeState.APPLIED)
    (journal.images / "old.before").write_text("x")
    assert journal.forget(older_than_days=-1) == 1
    assert journal.get("old") is None
    assert journal.get("open") is not None
    assert list(journal.images.iterdir()) == []


def test_a_reused_pid_is_not_alive() -> None:
    pid, started_s = me()
    assert alive(pid, started_s)
    assert not alive(pid, started_s + 5)
    assert not alive(2**22 + 1, 0)


def test_a_lock_names_its_holder(tmp_path: Path) -> None:
    with held(tmp_path / "l"), pytest.raises(ChangeRefused) as refused, held(tmp_path / "l", timeout_s=0.05):
        pass
    assert str(me()[0]) in refused.value.why
