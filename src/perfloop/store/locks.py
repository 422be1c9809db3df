"""Locks between processes: a file that the kernel unlocks when its holder dies, with the holder's name in it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from perfloop.errors import ChangeRefused, StorageError
from perfloop.host.processes import start_time_s


def started_s(pid: int) -> float | None:
    """When ``pid`` started, in seconds since boot; None where there is no such process, or only its unreaped rest."""
    return start_time_s(pid)


def alive(pid: int, start_s: float) -> bool:
    """True while the process ``pid`` that started ``start_s`` seconds after boot still runs; a reused pid does not count."""
    now = started_s(pid)
    return now is not None and abs(now - start_s) < 0.05


def me() -> tuple[int, float]:
    """This process: its pid and its start in seconds since boot."""
    return os.getpid(), started_s(os.getpid()) or 0.0


#: of the holder's name, so that one overwrites the other
_NAME_BYTES = 128


@contextmanager
def held(path: Path, *, timeout_s: float = 10.0, what: str = "this", required: bool = True) -> Iterator[None]:
    """Holds the exclusive lock ``path`` for the block; ``ChangeRefused`` names who has it when ``timeout_s`` pass first.

    A lock that was made before (:func:`made`) is held on a full disk and on a read-only file system too. Where there is none and none can be made:
    ``StorageError``, or, not ``required``, the block goes on without it.
    """
    try:
        descriptor = _open(path)
    except StorageError:
        if required:
            raise
        yield
        return
    try:
        _take(descriptor, timeout_s, what)
        yield
    finally:
        os.close(descriptor)  # which unlocks it


def made(path: Path) -> None:
    """Makes the lock's file beforehand, so that holding it later needs nothing of the disk."""
    os.close(_open(path))


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        with suppress(OSError):  # the kernel locks what is open for reading too
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        raise StorageError(
            f"cannot open the lock {path}", why=error.strerror or str(error), fix="check that the folder is yours and its disk is not full"
        ) from error


def _take(descriptor: int, timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise ChangeRefused(
                    f"{what} is in use", why=f"process {_holder(descriptor).get('pid', 'unknown')} holds it", fix="wait until it has ended, then run this again"
                ) from None
        time.sleep(0.02)
    pid, start_s = me()
    name = json.dumps({"pid": pid, "started_s": start_s}).encode().ljust(_NAME_BYTES)
    with suppress(OSError):  # only a courtesy to whoever waits: a full disk must not cost the lock
        if os.pread(descriptor, _NAME_BYTES, 0) != name:
            os.pwrite(descriptor, name, 0)  # in place: cutting the file first would cost the next fsync a millisecond


def _holder(descriptor: int) -> dict[str, Any]:
    try:
        record = json.loads(os.pread(descriptor, _NAME_BYTES, 0) or b"{}")
    except (ValueError, OSError):
        return {}
    return record if isinstance(record, dict) else {}
