"""The disk budget of the project's runs: which to delete, oldest first, never a baseline."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def size_bytes(folder: Path) -> int:
    """Bytes of all files under ``folder``; a file that vanishes meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size if path.is_file() else 0
    return total


def excess(runs: Iterable[tuple[str, int]], keep: frozenset[str], disk_max_bytes: int, runs_max: int) -> tuple[str, ...]:
    """Runs to delete, from (id, bytes) oldest first, until both limits hold; those in ``keep`` stay and still count."""
    known = list(runs)
    left_bytes, left_runs = sum(size for _, size in known), len(known)
    gone = []
    for run_id, size in known:
        if left_bytes <= disk_max_bytes and left_runs <= runs_max:
            break
        if run_id in keep:
            continue
        gone.append(run_id)
        left_bytes, left_runs = left_bytes - size, left_runs - 1
    return tuple(gone)


def remove(folder: Path) -> None:
    """Deletes a run's folder; what cannot be deleted stays for the next time."""
    shutil.rmtree(folder, ignore_errors=True)
