"""Scheduler counters by thread: summed by thread over the window, because the sum over a process goes *down* when a thread ends."""

from __future__ import annotations

import os
from dataclasses import dataclass

THREADS_MAX = 5000


@dataclass(frozen=True)
class ThreadCounters:
    """One thread since its start: seconds runnable without a core, voluntary and involuntary switches."""

    run_delay_s: float = 0.0
    voluntary: int = 0
    involuntary: int = 0


class ThreadTally:
    """The counters of all threads of a process over a window, threads that came and went in it included (up to their last sample)."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._first = read_threads(pid)
        self._last = dict(self._first)

    def sample(self) -> None:
        """Read the counters of the threads alive now."""
        self._last.update(read_threads(self._pid))

    @property
    def delta(self) -> ThreadCounters:
        """What was added since the window began; a thread born in it counts from its start."""
        none = ThreadCounters()
        pairs = [(self._first.get(thread, none), last) for thread, last in self._last.items()]
        return ThreadCounters(
            run_delay_s=sum(max(0.0, last.run_delay_s - first.run_delay_s) for first, last in pairs),
            voluntary=sum(max(0, last.voluntary - first.voluntary) for first, last in pairs),
            involuntary=sum(max(0, last.involuntary - first.involuntary) for first, last in pairs),
        )


def read_threads(pid: int) -> dict[int, ThreadCounters]:
    """Counters of the threads of a process by thread id; empty where it is gone, zeros where this kernel does not keep them."""
    folder = f"/proc/{pid}/task"
    found = {}
    try:
        threads = os.listdir(folder)[:THREADS_MAX]  # noqa: PTH208 -- read several times a second
    except OSError:
        return {}
    for thread in threads:
        try:
            schedule, status = _read(f"{folder}/{thread}/schedstat").split(), _read(f"{folder}/{thread}/status")
        except OSError:  # ended since
            continue
        voluntary, involuntary = _switches(status)
        found[int(thread)] = ThreadCounters(int(schedule[1]) / 1e9 if len(schedule) >= 2 else 0.0, voluntary, involuntary)
    return found


def _switches(status: bytes) -> tuple[int, int]:
    values = dict(line.split(b":", 1) for line in status.splitlines()[-2:] if b":" in line)
    return int(values.get(b"voluntary_ctxt_switches", 0)), int(values.get(b"nonvoluntary_ctxt_switches", 0))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return file.read(65_536)
    except FileNotFoundError:
        if path.endswith("schedstat"):
            return b""  # a kernel without it
        raise
