"""The cells of ``bench.faults``: service × fault, decoys, healthy runs and double faults, each with its load."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.faults_ground import Desk, Ground

QUIET = (("/tickets/{100..4000}", 1.0), ("/health", 0.5))
PEOPLE, DIGEST, EXPORT = ("/people/{1..900}", 2.0), ("/digest?days=30", 1.0), ("/export", 1.0)
THREADS, INBOX, BOARD, AGENTS, NOTE = ("/threads?limit=15", 1.0), ("/inbox?agent={1..390}", 2.0), ("/board", 2.0), ("/agents/{1..900}", 2.0), ("/note", 2.0)


@dataclass(frozen=True)
class Cell:
    """One run. ``expect``: rules of which the first-ranked must be one (all, for a double fault); ``wrong``: what a decoy must not be blamed for."""

    name: str
    service: str
    kind: str
    faults: tuple[str, ...] = ()
    expect: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    journeys: tuple[tuple[str, float], ...] = ()
    rate_per_s: float = 15.0
    workers: int = 1
    threads: int = 8
    pinned: bool = True
    quota_cores: float = 0.0  # of a control group for the desk
    neighbours: int = 0  # busy processes on the desk's core

    @contextmanager
    def around(self, ground: Ground) -> Iterator[None]:
        """What must be there before the desk starts."""
        yield

    @contextmanager
    def beside(self, desk: Desk, ground: Ground) -> Iterator[None]:
        """What is done to the running desk: a CPU quota, busy neighbours."""
        group = Path("/sys/fs/cgroup/cpu") / f"perfloop-bench-{os.getpid()}"
        others: list[subprocess.Popen[bytes]] = []
        try:
            if self.quota_cores:
                group.mkdir()
                (group / "cpu.cfs_quota_us").write_text(str(int(self.quota_cores * 100_000)))
                for pid in (desk.pid, *_children(desk.pid)):
                    (group / "cgroup.procs").write_text(str(pid))
            for _ in range(self.neighbours):
                other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
                os.sched_setaffinity(other.pid, set(ground.cpus) or os.sched_getaffinity(0))
                others.append(other)
            yield
        finally:
            for other in others:
                other.kill()
                other.wait()
            if group.is_dir():
                for pid in (group / "cgroup.procs").read_text().split():
                    (group.parent / "cgroup.procs").write_text(pid)
                group.rmdir()


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


ALL = ("fastapi", "flask", "django")
THREADED = ("flask", "django")


def _fault(rule: str, services: tuple[str, ...], load: tuple[str, float], rate: float = 15.0, also: tuple[str, ...] = (), **more: object) -> list[Cell]:
    return [Cell(f"{rule}-{service}", service, "fault", (rule,), (rule, *also), journeys=(load, *QUIET), rate_per_s=rate, **more) for service in services]  # type: ignore[arg-type]


CELLS: tuple[Cell, ...] = (
    *_fault("missing-index", ALL, INBOX),
    *_fault("n-plus-one", ALL, THREADS, 10),
    *_fault("pool-exhausted", ("fastapi",), AGENTS, 60),
    *_fault("pool-exhausted", ("flask",), PEOPLE, 60),
    *_fault("event-loop-blocked", ("fastapi",), PEOPLE, 20),
    *_fault("cpu-hot-spot", ALL, DIGEST, 8),
    *_fault("superlinear", ALL, ("/digest?days=60", 1.0), 8),
    *_fault("memory-leak", ALL, DIGEST, 20),
    *_fault("lock-contention", ("fastapi",), AGENTS, 45),
    *_fault("lock-contention", THREADED, PEOPLE, 45),
    *_fault("cache-ineffective", ALL, DIGEST, 8),
    *_fault("slow-downstream", ALL, PEOPLE, 15),
    *_fault("serialization-heavy", ALL, EXPORT, 12),
    *_fault("logging-heavy", ALL, EXPORT, 20),
    *_fault("n-plus-one-http", ALL, PEOPLE, 8),
    *_fault("sequential-calls", ALL, PEOPLE, 12),
    *_fault("gc-pressure", ALL, ("/digest?days=100", 1.0), 6),
    *_fault("excessive-allocation", THREADED, DIGEST, 8),
    *_fault("thread-pool-exhausted", ("fastapi",), PEOPLE, 35),
    *_fault("thread-pool-exhausted", THREADED, PEOPLE, 35, threads=2),
    *_fault("worker-count-wrong", THREADED, PEOPLE, 20, threads=1, workers=2),
    *_fault("gil-bound", THREADED, ("/digest?days=25", 2.0), 140, pinned=False),
    *_fault("chatty-cache", ("fastapi",), AGENTS, 15),
    *_fault("chatty-cache", THREADED, PEOPLE, 15),
    *_fault("cache-stampede", ALL, BOARD, 40),
    *_fault("no-keep-alive", ALL, PEOPLE, 15),
    *_fault("large-payload", ALL, EXPORT, 8),
    *_fault("no-pagination", ALL, EXPORT, 6),
    *_fault("retry-storm", ALL, PEOPLE, 12),
    *_fault("cpu-throttled", THREADED, ("/digest?days=40", 2.0), 14, quota_cores=0.15),
    *_fault("noisy-neighbour", THREADED, ("/digest?days=40", 2.0), 14, neighbours=4),
    *_fault("fsync-bound", ALL, NOTE, 12),
    *tuple(
        Cell(
            f"healthy-{service}-{number}", service, "healthy", journeys=(PEOPLE, ("/digest?days=5", 1.0), EXPORT, THREADS, INBOX, BOARD, *QUIET), rate_per_s=12
        )
        for number in range(1, 5)
        for service in ALL
    )[:10],
)
