"""The service's control group: how often its CPU quota stopped it, how near it is to its memory and process limits."""

from __future__ import annotations

import time
from collections.abc import Sequence

from perfloop.host import cgroup
from perfloop.model.evidence import Unavailable
from perfloop.model.signals import CgroupObservation
from perfloop.model.target import Target
from perfloop.observe.base import Access, Observation

ID = "cgroup"
NEEDS = "control groups, version 1 or 2, mounted where we can read them"
COST = "two readings of a few small files"


class CgroupSession:
    """Counters of one process's group at both ends of the window; workers share their parent's group."""

    interval_s = None

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._read()

    def begin(self) -> None:
        """Read the counters."""
        self._read()

    def sample(self) -> None:
        """Nothing between."""

    def finish(self) -> Sequence[Observation]:
        """Read the counters again and return the difference."""
        quota, memory, began_s = self._quota, self._memory, self._began_s
        self._read()
        limits = cgroup.limits(self._pid)
        now, tasks = self._quota, cgroup.processes(self._pid)
        return (
            CgroupObservation(
                window_s=self._began_s - began_s,
                path=limits.path,
                version=cgroup.version(self._pid),
                cpu_limit_cores=limits.cpu_cores,
                periods=now.periods - quota.periods if now and quota else 0,
                throttled_periods=now.throttled_periods - quota.throttled_periods if now and quota else 0,
                throttled_s=now.throttled_s - quota.throttled_s if now and quota else 0.0,
                memory_limit_bytes=limits.memory_bytes,
                memory_used_bytes=self._memory.used_bytes if self._memory else None,
                memory_limit_hits=_since(memory, self._memory, "limit_hits"),
                oom_kills=_since(memory, self._memory, "oom_kills"),
                processes=tasks[0] if tasks else None,
                processes_limit=tasks[1] if tasks else None,
            ),
        )

    def close(self) -> None:
        """Nothing is held."""

    def _read(self) -> None:
        self._began_s = time.monotonic()
        self._quota, self._memory = cgroup.throttling(self._pid), cgroup.memory(self._pid)


def start(target: Target, access: Access) -> CgroupSession | Unavailable:
    """A session for the group of the service's first process."""
    if not access.pids:
        return Unavailable(probe=ID, reason="no process of the service is known", fix="run perfloop on the service's machine, as its user or as root")
    return CgroupSession(access.pids[0])


def _since(first: cgroup.Memory | None, last: cgroup.Memory | None, name: str) -> int | None:
    before, now = getattr(first, name, None), getattr(last, name, None)
    return max(0, now - before) if before is not None and now is not None else None
