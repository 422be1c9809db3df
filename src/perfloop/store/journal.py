"""The journal of open changes, one for the machine, so that recovery works from any folder. What it says is on disk before the effect is."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from perfloop.errors import ChangeRefused, StorageError
from perfloop.model.base import utc_now
from perfloop.model.change import ChangeState, JournalEntry
from perfloop.store import database, locks
from perfloop.store.paths import private_dir, state_dir

#: the longest that one renewal may hold a change
LEASE_MAX_S = 300.0
#: an undo must be able to read the journal when the disk is full, which a write-ahead log cannot promise
_MODE = "PERSIST"


def _create(connection: sqlite3.Connection) -> None:
    connection.execute(
        "CREATE TABLE changes (number INTEGER PRIMARY KEY AUTOINCREMENT, change_id TEXT UNIQUE NOT NULL, target_url TEXT NOT NULL, state TEXT NOT NULL,"
        " owner_pid INTEGER NOT NULL, lease_until_monotonic_s REAL NOT NULL, entry TEXT NOT NULL)"
    )
    connection.execute(
        "CREATE TABLE transitions (number INTEGER PRIMARY KEY AUTOINCREMENT, change_id TEXT NOT NULL, state TEXT NOT NULL, at_unix_s REAL NOT NULL, pid INTEGER NOT NULL, error TEXT NOT NULL)"
    )


#: from schema version i to i + 1
MIGRATIONS: tuple[database.Migration, ...] = (_create,)


def same_target(url: str) -> str:
    """The form of a target's URL under which its changes and its lock are found."""
    return url.strip().rstrip("/").lower()


class Journal:
    """Every change with its state, its owner and its lease. Each call is one durable transaction; safe from several processes and threads."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = state_dir(root)
        self.path = self.root / "journal.sqlite"
        self.images = private_dir(self.root / "images")  # before-images of files, for change kinds
        self._locks = private_dir(self.root / "locks")

    def put(self, entry: JournalEntry) -> None:
        """Records a new change; ``StorageError`` where its id is already known. The lock of its undo is made first: later the disk may be full."""
        locks.made(self._lock_path("undo", entry.change.id))
        with self._write() as connection:
            connection.execute(
                "INSERT INTO changes (change_id, target_url, state, owner_pid, lease_until_monotonic_s, entry) VALUES (?, ?, ?, ?, ?, ?)",
                (entry.change.id, same_target(entry.target_url), entry.state, entry.owner_pid, time.monotonic() + LEASE_MAX_S, entry.model_dump_json()),
            )
            _log(connection, entry.change.id, entry.state, entry.error)

    def set_state(
        self, change_id: str, state: ChangeState, error: str = "", backend: dict[str, Any] | None = None, *, expect: Iterable[ChangeState] | None = None
    ) -> JournalEntry:
        """Moves a change to ``state``; with ``expect``, only from one of those, else ``ChangeRefused``: somebody else (the watchdog) has moved it."""
        with self._write() as connection:
            entry = _read(connection, change_id)
            if expect is not None and entry.state not in tuple(expect):
                raise ChangeRefused(
                    f"the change {change_id} is {entry.state}",
                    why=f"it cannot become {state} from there: its lease had expired, or it was undone elsewhere",
                    fix="run this again",
                )
            fields: dict[str, Any] = {"state": state, "error": error or entry.error, "updated_at": utc_now()}
            if backend is not None:
                fields["backend"] = backend
            moved: JournalEntry = entry.with_(**fields)
            _write_entry(connection, moved)
            _log(connection, change_id, state, error)
        return moved

    def note(self, change_id: str, backend: dict[str, Any]) -> None:
        """Adds to what is known of our work that may still run elsewhere (a database backend, a command)."""
        with self._write() as connection:
            entry = _read(connection, change_id)
            _write_entry(connection, entry.with_(backend=entry.backend | backend, updated_at=utc_now()))

    def renew(self, change_id: str, lease_s: float) -> None:
        """Holds the change for another ``lease_s`` seconds (at most 300) from now."""
        lease_s = min(lease_s, LEASE_MAX_S)
        until = (datetime.now(UTC) + timedelta(seconds=lease_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
        with self._write() as connection:
            entry = _read(connection, change_id)
            _write_entry(connection, entry.with_(lease_until=until))
            connection.execute("UPDATE changes SET lease_until_monotonic_s = ? WHERE change_id = ?", (time.monotonic() + lease_s, change_id))

    def lease_left_s(self, change_id: str) -> float:
        """Seconds until the lease ends by the machine's monotonic clock (a changed wall clock does not matter); negative when it has."""
        with self._look() as connection:
            row = connection.execute("SELECT lease_until_monotonic_s FROM changes WHERE change_id = ?", (change_id,)).fetchone()
        return float(row[0]) - time.monotonic() if row else 0.0

    def get(self, change_id: str) -> JournalEntry | None:
        """The change as the journal holds it, or None."""
        with self._look() as connection:
            row = connection.execute("SELECT entry FROM changes WHERE change_id = ?", (change_id,)).fetchone()
        return _parse(row[0]) if row else None

    def entries(self, limit: int = 100) -> tuple[JournalEntry, ...]:
        """The newest ``limit`` changes, whatever their state, newest first."""
        with self._look() as connection:
            rows = connection.execute("SELECT entry FROM changes ORDER BY number DESC LIMIT ?", (limit,)).fetchall()
        return tuple(_parse(row[0]) for row in rows)

    def open_entries(self, target_url: str | None = None) -> tuple[JournalEntry, ...]:
        """Changes that may have an effect nobody decided to keep, newest first (the order in which to undo them); of one target where given."""
        with self._look() as connection:
            rows = connection.execute("SELECT entry, target_url FROM changes WHERE state NOT IN ('planned', 'kept', 'undone') ORDER BY number DESC").fetchall()
        return tuple(_parse(row[0]) for row in rows if target_url is None or row[1] == same_target(target_url))

    def history(self, change_id: str) -> tuple[tuple[ChangeState, float, int], ...]:
        """Each state the change went through: the state, when (Unix time in seconds), and by which process."""
        with self._look() as connection:
            rows = connection.execute("SELECT state, at_unix_s, pid FROM transitions WHERE change_id = ? ORDER BY number", (change_id,)).fetchall()
        return tuple((ChangeState(row[0]), float(row[1]), int(row[2])) for row in rows)

    def forget(self, older_than_days: int = 90) -> int:
        """Deletes closed changes (kept, undone, planned) whose last transition is older; returns how many."""
        cutoff = time.time() - older_than_days * 86_400
        with self._write() as connection:
            gone = connection.execute(
                "SELECT change_id FROM changes WHERE state IN ('planned', 'kept', 'undone') AND change_id NOT IN (SELECT change_id FROM transitions WHERE at_unix_s >= ?)",
                (cutoff,),
            ).fetchall()
            for (change_id,) in gone:
                connection.execute("DELETE FROM changes WHERE change_id = ?", (change_id,))
                connection.execute("DELETE FROM transitions WHERE change_id = ?", (change_id,))
        for (change_id,) in gone:
            self._lock_path("undo", change_id).unlink(missing_ok=True)
            for image in self.images.glob(f"{change_id}.*"):
                image.unlink(missing_ok=True)
        return len(gone)

    def lock(self, target_url: str, timeout_s: float = 2.0) -> AbstractContextManager[None]:
        """Holds the target for this process: one perfloop changes it at a time. ``ChangeRefused`` names the process that has it."""
        return locks.held(self._lock_path("target", same_target(target_url)), timeout_s=timeout_s, what=target_url)

    def undo_lock(self, change_id: str, timeout_s: float = LEASE_MAX_S) -> AbstractContextManager[None]:
        """Held while a change is undone, so that perfloop, its watchdog and a recovery never do it at the same time.

        Where it is gone and the disk makes no new one, the undo goes on without: it is compare-and-swap, and an undo left undone is worse.
        """
        return locks.held(self._lock_path("undo", change_id), timeout_s=timeout_s, what=f"the undo of {change_id}", required=False)

    def _lock_path(self, kind: str, name: str) -> Path:
        return self._locks / f"{kind}-{hashlib.sha256(name.encode()).hexdigest()[:24]}"

    def _write(self) -> AbstractContextManager[sqlite3.Connection]:
        return database.opened(self.path, MIGRATIONS, journal_mode=_MODE)

    @contextmanager
    def _look(self) -> Iterator[sqlite3.Connection]:
        with database.opened(self.path, MIGRATIONS, write=False, journal_mode=_MODE) as connection:
            yield connection


def _read(connection: sqlite3.Connection, change_id: str) -> JournalEntry:
    row = connection.execute("SELECT entry FROM changes WHERE change_id = ?", (change_id,)).fetchone()
    if row is None:
        raise StorageError(f"the journal does not know the change {change_id}", fix="list what it knows: perfloop log")
    return _parse(row[0])


def _write_entry(connection: sqlite3.Connection, entry: JournalEntry) -> None:
    connection.execute(
        "UPDATE changes SET state = ?, owner_pid = ?, entry = ? WHERE change_id = ?", (entry.state, entry.owner_pid, entry.model_dump_json(), entry.change.id)
    )


def _log(connection: sqlite3.Connection, change_id: str, state: ChangeState, error: str) -> None:
    connection.execute(
        "INSERT INTO transitions (change_id, state, at_unix_s, pid, error) VALUES (?, ?, ?, ?, ?)", (change_id, state, time.time(), os.getpid(), error)
    )


def _parse(text: str) -> JournalEntry:
    try:
        return JournalEntry.model_validate_json(text)
    except ValidationError as error:
        raise StorageError(
            "an entry of the journal cannot be read",
            why=f"{error.error_count()} fields are damaged or from another version",
            fix="use the perfloop version that wrote it, or undo by hand what it names",
        ) from error
