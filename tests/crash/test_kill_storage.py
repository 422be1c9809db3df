"""What storage does to changes: a full disk, a damaged journal, a child that outlives its parent."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from perfloop.errors import ChangeRefused, StorageError
from perfloop.host.processes import start_time_s
from perfloop.loop.recover import recover
from perfloop.model.change import ChangeState
from perfloop.store.audit import AuditLog
from perfloop.store.journal import Journal

from .conftest import Crash, Service, wait_for


def test_a_forked_child_that_holds_the_pipe_does_not_hide_the_death(crash: Crash, service: Service) -> None:
    process, said = crash.start({**service.order, "fork": True, "hang_s": 60})
    crash.measuring(process)
    process.kill()
    crash.undone(said["change"], crash.dead(process))
    assert service.answers() == "5"


def test_a_damaged_journal_is_said_and_nothing_is_changed(crash: Crash, service: Service) -> None:
    before = service.file.read_bytes()
    crash.root.mkdir(mode=0o700)
    (crash.root / "journal.sqlite").write_bytes(b"no database at all" * 400)
    process, _ = crash.start(service.order)
    assert process.wait(60) == StorageError.exit_code
    assert process.stderr is not None
    assert "is damaged" in process.stderr.read()
    assert service.file.read_bytes() == before


def test_a_damaged_entry_is_said(crash: Crash) -> None:
    import sqlite3

    journal = Journal(crash.root)
    assert journal.open_entries() == ()
    with sqlite3.connect(journal.path) as connection:
        connection.execute(
            "INSERT INTO changes (change_id, target_url, state, owner_pid, lease_until_monotonic_s, entry) VALUES ('x', 'u', 'applied', 1, 0, '{torn')"
        )
    with pytest.raises(StorageError, match="cannot be read"):
        recover("u", journal=journal, audit=AuditLog(crash.root))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=200", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(folder: Path) -> None:
    """Every block and every inode."""
    (folder / "fillers").mkdir(exist_ok=True)
    with (folder / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    with suppress(OSError):
        for number in range(1000):
            (folder / "fillers" / str(number)).touch()


def _free(folder: Path) -> None:
    (folder / "filler").unlink()
    shutil.rmtree(folder / "fillers")


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    """Nothing can be opened for writing there any more, by any path."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def _full(folder: Path) -> Iterator[None]:
    _fill(folder)
    yield
    _free(folder)


def test_a_disk_that_fills_up_while_measuring_costs_the_record_not_the_undo(small_disk: Path, service: Service) -> None:
    crash = Crash(small_disk / "state")
    file = small_disk / "app.toml"
    before = service.file.read_bytes()
    file.write_bytes(before)
    service.file.unlink()
    service.file.symlink_to(file)
    process, said = crash.start({**service.order, "hang_s": 60})
    crash.measuring(process)
    _fill(small_disk)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) in (StorageError.exit_code, 130)
    assert file.read_bytes() == before
    assert service.answers() == "5"
    _free(small_disk)
    wait_for(lambda: recover(None, journal=crash.journal, audit=AuditLog(crash.root)) is not None)
    assert crash.journal.get(said["change"]).state == ChangeState.UNDONE  # type: ignore[union-attr]
    assert AuditLog(crash.root).verify() == ()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("state_of", [_full, _read_only])
@pytest.mark.parametrize("lock_is_gone", [False, True])
def test_a_state_directory_that_takes_nothing_costs_the_record_not_the_undo(
    small_disk: Path, service: Service, state_of: Callable[[Path], AbstractContextManager[None]], lock_is_gone: bool
) -> None:
    """perfloop is killed, and its watchdog undoes; then a recovery does it again. The record follows when the disk takes it."""
    crash = Crash(small_disk / "state")
    before = service.file.read_bytes()
    process, said = crash.start({**service.order, "hang_s": 60})
    watchdog = crash.measuring(process)
    watchdog_started_s = start_time_s(watchdog)
    changed = service.file.read_bytes()
    assert changed != before
    if lock_is_gone:
        for lock in (crash.root / "locks").glob("undo-*"):
            lock.unlink()
    with state_of(small_disk):
        process.kill()
        process.wait(60)
        wait_for(lambda: start_time_s(watchdog) != watchdog_started_s)
        assert service.file.read_bytes() == before
        assert service.answers() == "5"
        if crash.journal.open_entries():  # its record was overwritten in place on the full disk, which the read-only one does not allow
            service.file.write_bytes(changed)
            with pytest.raises(StorageError, match="undone, but not recorded"):
                recover(None, journal=crash.journal, audit=AuditLog(crash.root))
        assert service.file.read_bytes() == before
    wait_for(lambda: recover(None, journal=crash.journal, audit=AuditLog(crash.root)) is not None)
    assert crash.journal.get(said["change"]).state == ChangeState.UNDONE  # type: ignore[union-attr]
    crash.check_audit()
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def test_a_full_disk_is_refused_before_anything_is_changed(small_disk: Path, service: Service) -> None:
    crash = Crash(small_disk / "state")
    _fill(small_disk)
    before = service.file.read_bytes()
    process, _ = crash.start(service.order)
    assert process.wait(60) in (StorageError.exit_code, ChangeRefused.exit_code)
    assert service.file.read_bytes() == before
