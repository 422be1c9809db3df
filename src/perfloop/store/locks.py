"""Locks between processes: a file that the kernel unlocks when its holder dies, with the holder's name in it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def held(path: Path, *, timeout_s: float = 10.0, what: str = "this") -> Iterator[None]:
    """Holds the exclusive lock ``path`` for the block; ``ChangeRefused`` names who has it when ``timeout_s`` pass first."""
    descriptor = _open(path)
    try:
        _take(descriptor, timeout_s, what)
        yield
    finally:
        os.close(descriptor)  # which unlocks it


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
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
    try:  # only a courtesy to whoever waits: a full disk must not cost the lock
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": pid, "started_s": start_s}).encode(), 0)
    except OSError:
        return


def _holder(descriptor: int) -> dict[str, Any]:
    try:
        record = json.loads(os.pread(descriptor, 512, 0) or b"{}")
    except (ValueError, OSError):
        return {}
    return record if isinstance(record, dict) else {}
