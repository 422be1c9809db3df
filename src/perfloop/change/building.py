"""Builds and drops indexes concurrently without ever making others wait long, and leaves no invalid one.

``CREATE INDEX CONCURRENTLY`` stops no writer by itself, but while it waits for older transactions a migration's ``ALTER TABLE`` queues behind it, and every
query on the table queues behind that. So the build is watched from a second connection, and cancelled where somebody waits for it; what is left is dropped by its oid,
only where it is invalid, and the build is tried again once nobody waits. Source: PostgreSQL manual, "Building Indexes Concurrently", "Table-Level Locks".
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import psycopg

from perfloop.change.indexes import Connection
from perfloop.errors import CannotMeasure

QUEUE_MAX_S = 2.0  # nobody waits longer for a build or a drop of ours: the lock budget
LOOK_EVERY_S = 0.1
TRIES_MAX = 3
PAUSE_S = 1.0  # for those who waited, and twice as long each time
_WAITING = "SELECT DISTINCT l.pid FROM pg_catalog.pg_locks l WHERE NOT l.granted AND l.pid <> %s AND %s = ANY(pg_catalog.pg_blocking_pids(l.pid))"
_INVALID = """
SELECT c.oid::bigint, quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid = %s AND n.nspname = %s AND c.relname = %s AND NOT i.indisvalid"""

Connect = Callable[[], AbstractContextManager[Connection]]


@dataclass
class Queue:
    """Who waits for one backend, seen from another connection: cancels that backend's statement where somebody waits longer than the budget."""

    connection: Connection
    busy: Connection
    cancelled: str = ""
    longest_s: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Look until told to stop. A look that fails cancels too: an unwatched build is not let run."""
        pid, since = self.busy.info.backend_pid, dict[int, float]()
        while not self._over.wait(LOOK_EVERY_S):
            try:
                waiting = {int(row[0]) for row in self.connection.execute(_WAITING, (self.connection.info.backend_pid, pid)).fetchall()}
            except psycopg.Error as error:
                self._cancel(f"it could not be watched any more: {str(error).strip().splitlines()[0] if str(error).strip() else 'connection lost'}")
                return
            now = time.monotonic()
            since = {other: since.get(other, now) for other in waiting}
            self.longest_s = max([self.longest_s, *(now - first for first in since.values())])
            if any(now - first >= QUEUE_MAX_S - 2 * LOOK_EVERY_S for first in since.values()):
                self._cancel(f"backend {min(since, key=since.__getitem__)} waited for it, and everybody behind that")
                return

    def stop(self) -> None:
        """No more looks."""
        self._over.set()

    def _cancel(self, why: str) -> None:
        if not self._over.is_set():
            self.cancelled = why
            try:
                self.busy.cancel_safe(timeout=5.0)
            except psycopg.Error:
                self.busy.cancel()


@contextmanager
def watched(connect: Connect, busy: Connection) -> Iterator[Queue]:
    """A watch on the statement that runs inside."""
    with connect() as other:
        queue = Queue(other, busy)
        thread = threading.Thread(target=queue.watch, name="build-watch", daemon=True)
        thread.start()
        try:
            yield queue
        finally:
            queue.stop()
            thread.join(10.0)


def build(connect: Connect, busy: Connection, statement: str, table_oid: int, name: tuple[str, str], until: float) -> int:
    """Run ``CREATE INDEX CONCURRENTLY`` on ``busy``; returns how many tries it took. ``name``: (schema, index); ``until``: monotonic deadline for the last try to begin.

    Raises the server's error as it is; where others had to wait each time, ``CannotMeasure`` says who.
    """
    pause_s = PAUSE_S
    for number in range(1, TRIES_MAX + 1):
        with watched(connect, busy) as queue:
            try:
                busy.execute(statement.encode())
                return number
            except psycopg.errors.QueryCanceled:
                if not queue.cancelled:
                    raise
        drop_invalid(connect, busy, table_oid, name)
        if number == TRIES_MAX or time.monotonic() + pause_s > until:
            raise CannotMeasure(
                "the index could not be built without making others wait",
                why=f"{queue.cancelled}; cancelled {number} time{'s' if number > 1 else ''} after {QUEUE_MAX_S:g} s",
                fix="run it when no migration runs and no transaction stays open on that table",
            )
        time.sleep(pause_s)
        pause_s *= 2
    raise AssertionError("unreachable")


def drop_invalid(connect: Connect, busy: Connection, table_oid: int, name: tuple[str, str]) -> None:
    """Drop what a build left, by its oid and only where it is invalid; tried until it is gone, at most for as long as the tries take."""
    for _ in range(2 * TRIES_MAX):
        row = busy.execute(_INVALID, (table_oid, *name)).fetchone()
        if row is None:
            return
        drop(connect, busy, f"DROP INDEX CONCURRENTLY {row[1]}")


def drop(connect: Connect, busy: Connection, statement: str) -> str:
    """``DROP INDEX CONCURRENTLY``, watched in the same way; empty where it is done, else the reason: it may be tried again."""
    with watched(connect, busy) as queue:
        try:
            busy.execute(statement.encode())
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            return queue.cancelled or " ".join(str(error.diag.message_primary or error).split())
    return ""
