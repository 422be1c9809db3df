"""How much of the time Python's garbage collector runs, read from outside: its flag is looked at, its counters are read; nothing is stopped or changed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from perfloop.errors import CannotMeasure
from perfloop.host.interpreter import Collector
from perfloop.model.evidence import Unavailable
from perfloop.model.signals import CollectorObservation
from perfloop.model.target import Target
from perfloop.observe.base import Access, Observation
from perfloop.observe.probes.stacks import is_python

ID = "collector"
NEEDS = "CPython, and the right to read the service's memory (same user with Yama ptrace_scope 0, or root)"
COST = "about 1 % of a core; nothing in the service"

RATE_HZ = 150.0
PIDS_MAX = 8


class _Watched:
    """One process: its collector, and what was seen of it."""

    def __init__(self, pid: int) -> None:
        self.pid, self.collector = pid, Collector(pid)
        self.first: tuple[int, ...] = ()
        self.samples = self.collecting = 0


class CollectorSession:
    """Looks at the flags of all processes together."""

    interval_s = 1 / RATE_HZ

    def __init__(self, watched: list[_Watched], missing: list[Unavailable]) -> None:
        self._watched, self._missing = watched, missing
        self._began_s = time.monotonic()

    def begin(self) -> None:
        """Read the counters."""
        self._began_s = time.monotonic()
        for one in self._watched:
            one.first = one.collector.collections()

    def sample(self) -> None:
        """Look at every flag once."""
        for one in self._watched:
            one.collecting += one.collector.collecting()
            one.samples += 1

    def finish(self) -> Sequence[Observation]:
        """Shares and counts."""
        window_s = time.monotonic() - self._began_s
        found: list[Observation] = list(self._missing)
        for one in self._watched:
            counts = tuple(max(0, last - first) for first, last in zip(one.first, one.collector.collections(), strict=True))
            found.append(CollectorObservation(window_s=window_s, pid=one.pid, samples=one.samples, collecting=one.collecting, collections=counts))
        return found

    def close(self) -> None:
        """Let go of the processes' memory."""
        for one in self._watched:
            one.collector.close()


def start(target: Target, access: Access) -> CollectorSession | Unavailable:
    """A session over the service's Python processes."""
    pids = [pid for pid in access.pids if is_python(pid, target)][:PIDS_MAX]
    if not pids:
        return Unavailable(
            probe=ID, reason="none of the service's processes is known to be Python", fix="run perfloop on the service's machine, as its user or as root"
        )
    watched, missing = [], []
    for pid in pids:
        try:
            watched.append(_Watched(pid))
        except CannotMeasure as error:
            missing.append(Unavailable(probe=ID, reason=f"{error.what}: {error.why}", fix=error.fix))
    return CollectorSession(watched, missing) if watched else missing[0]
