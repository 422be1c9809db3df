"""The SQLite files of perfloop: opened with a schema version, migrated step by step, refused when a newer perfloop wrote them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from perfloop.errors import StorageError

#: one step of a migration: from version i (its index) to i + 1, inside one transaction
Migration = Callable[[sqlite3.Connection], None]
_BUSY_TIMEOUT_S = 15.0


@contextmanager
def opened(path: Path, migrations: Sequence[Migration], *, write: bool = True, journal_mode: str = "WAL") -> Iterator[sqlite3.Connection]:
    """One transaction on the database at ``path``, made or migrated first; committed at the end, rolled back when the block raises.

    A connection lives for one block only, so that threads, forks and killed processes share nothing. ``synchronous=FULL``: what was
    committed survives a power cut. ``StorageError`` where the file is damaged, full, not ours or newer than this perfloop.
    """
    connection: sqlite3.Connection | None = None
    try:
        _keep_private(path)
        connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute(f"PRAGMA journal_mode={journal_mode}")
        connection.execute("PRAGMA synchronous=FULL")
        if _version(connection) != len(migrations):
            _migrate(connection, path, migrations)
        connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        yield connection
        connection.execute("COMMIT")
    except (sqlite3.Error, OSError) as error:
        raise _storage_error(path, error) from error
    finally:
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()  # an open transaction is rolled back by this


def _keep_private(path: Path) -> None:
    if not path.exists():
        path.touch(mode=0o600)


def _version(connection: sqlite3.Connection) -> int:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_version'").fetchone() is None:
        return 0
    row = connection.execute("SELECT version FROM schema_version").fetchone()
    return int(row[0]) if row else 0


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    version = _version(connection)  # again, now that nobody else can migrate
    if version > len(migrations):
        connection.execute("ROLLBACK")
        raise StorageError(
            f"{path} was written by a newer perfloop",
            why=f"its schema version is {version}, this perfloop knows up to {len(migrations)}",
            fix="upgrade perfloop, or move that folder away",
        )
    connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
    for step in migrations[version:]:
        step(connection)
    connection.execute("DELETE FROM schema_version")
    connection.execute("INSERT INTO schema_version VALUES (?)", (len(migrations),))
    connection.execute("COMMIT")


def _storage_error(path: Path, error: sqlite3.Error | OSError) -> StorageError:
    text = str(error)
    if "full" in text or "No space" in text or "disk I/O" in text:
        return StorageError(f"cannot write {path}", why=text, fix="free some space on that disk")
    if "not a database" in text or "malformed" in text:
        return StorageError(
            f"{path} is damaged", why=text, fix=f"move it away (mv {path} {path}.damaged) after reading what is open in it: sqlite3 {path} .recover"
        )
    return StorageError(f"cannot use {path}", why=text, fix="check that the folder exists, is yours and is on a local disk")
