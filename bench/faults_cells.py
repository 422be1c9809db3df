"""The cells of ``bench.faults``: service × fault, decoys, healthy runs and double faults, each with its load."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.faults_ground import WORK, Desk, Ground

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
    nice: int = 0  # of the neighbours
    unused_query: bool = False  # somebody else's slow query on the same database, now and then
    busy_disk: bool = False  # somebody else writes to the disk

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
            for code in self._others(ground):
                other = subprocess.Popen([sys.executable, "-c", code])
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

    def _others(self, ground: Ground) -> list[str]:
        found = [f"import os; os.nice({self.nice})\nwhile True: pass"] * self.neighbours
        if self.unused_query:
            dsn = ground.cluster.dsn("perfloop_ro", "bench")
            slow = "SELECT count(*) FROM messages WHERE author_id = 77"
            found.append(f"import psycopg, time\nc = psycopg.connect({dsn!r}, autocommit=True)\nwhile True: c.execute({slow!r}); time.sleep(1.5)")
        if self.busy_disk:
            path = str(WORK / "busy")
            found.append(f"import os\nf = open({path!r}, 'wb')\nwhile True:\n    f.seek(0); f.write(bytes(1 << 22)); f.flush(); os.fsync(f.fileno())")
        return found


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


ALL = ("fastapi", "flask", "django")
THREADED = ("flask", "django")


def _fault(rule: str, services: tuple[str, ...], load: tuple[str, float], rate: float = 15.0, also: tuple[str, ...] = (), **more: Any) -> list[Cell]:
    return [Cell(f"{rule}-{service}", service, "fault", (rule,), (rule, *also), journeys=(load, *QUIET), rate_per_s=rate, **more) for service in services]


def _double(service: str, first: tuple[str, tuple[str, float]], second: tuple[str, tuple[str, float]]) -> list[Cell]:
    faults = (first[0], second[0])
    return [Cell(f"double-{first[0]}+{second[0]}-{service}", service, "double", faults, faults, journeys=(first[1], second[1], *QUIET), rate_per_s=14)]


def _decoy(name: str, wrong: tuple[str, ...], load: tuple[str, float], rate: float, **more: Any) -> Cell:
    return Cell(f"decoy-{name}", "flask", "decoy", (f"decoy-{name}",), wrong=wrong, journeys=(load, *QUIET), rate_per_s=rate, **more)


HEALTHY = (PEOPLE, ("/digest?days=5", 1.0), EXPORT, THREADS, INBOX, BOARD, *QUIET)
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
    *_fault("thread-pool-exhausted", ("fastapi",), PEOPLE, 44),
    *_fault("thread-pool-exhausted", THREADED, PEOPLE, 35, threads=2),
    *_fault("worker-count-wrong", THREADED, PEOPLE, 36, threads=1, workers=2),
    *_fault("gil-bound", ("flask",), ("/digest?days=6", 3.0), 190, pinned=False),  # 0.8 of what one lock allows
    *_fault("chatty-cache", ("fastapi",), AGENTS, 15),
    *_fault("chatty-cache", THREADED, PEOPLE, 15),
    *_fault("cache-stampede", ALL, BOARD, 40),
    *_fault("no-keep-alive", ALL, PEOPLE, 15),
    *_fault("large-payload", ALL, EXPORT, 8),
    *_fault("no-pagination", ALL, EXPORT, 6),
    *_fault("retry-storm", ALL, PEOPLE, 12),
    *_fault("cpu-throttled", THREADED, ("/digest?days=400", 2.0), 20, quota_cores=0.15),
    *_fault("noisy-neighbour", THREADED, ("/digest?days=40", 2.0), 14, neighbours=4),
    *_fault("fsync-bound", ALL, NOTE, 12),
    *_double("flask", ("missing-index", INBOX), ("slow-downstream", PEOPLE)),
    *_double("fastapi", ("n-plus-one", THREADS), ("event-loop-blocked", PEOPLE)),
    *_double("django", ("cpu-hot-spot", DIGEST), ("retry-storm", PEOPLE)),
    *_double("flask", ("logging-heavy", EXPORT), ("n-plus-one-http", PEOPLE)),
    *_double("fastapi", ("missing-index", INBOX), ("sequential-calls", PEOPLE)),
    *_double("django", ("n-plus-one", THREADS), ("slow-downstream", PEOPLE)),
    *_double("flask", ("gc-pressure", ("/digest?days=100", 1.0)), ("chatty-cache", PEOPLE)),
    *_double("fastapi", ("serialization-heavy", EXPORT), ("n-plus-one-http", PEOPLE)),
    *_double("django", ("missing-index", INBOX), ("no-pagination", EXPORT)),
    *_double("flask", ("no-pagination", EXPORT), ("retry-storm", PEOPLE)),
    _decoy("cache", ("cache-ineffective", "cache-stampede"), DIGEST, 20),
    _decoy("lock", ("lock-contention",), DIGEST, 20),
    _decoy("memory", ("memory-leak",), DIGEST, 25),
    _decoy("nested", ("superlinear", "cpu-hot-spot"), DIGEST, 20),
    _decoy("dependent", ("sequential-calls", "n-plus-one-http"), PEOPLE, 12),
    _decoy("retry", ("retry-storm", "n-plus-one-http"), PEOPLE, 15),
    _decoy("idle-neighbour", ("noisy-neighbour", "cpu-saturated", "cpu-throttled"), PEOPLE, 15, neighbours=1, nice=19),
    _decoy("unused-query", ("missing-index", "n-plus-one"), PEOPLE, 15, unused_query=True),
    _decoy("busy-disk", ("disk-saturated", "fsync-bound"), PEOPLE, 15, busy_disk=True),
    _decoy("roomy-quota", ("cpu-throttled", "cpu-saturated"), PEOPLE, 15, quota_cores=1.5),
    *(Cell(f"healthy-{number}-{ALL[number % 3]}", ALL[number % 3], "healthy", journeys=HEALTHY, rate_per_s=12) for number in range(1, 11)),
)
