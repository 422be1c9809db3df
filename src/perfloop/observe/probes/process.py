"""The service's processes: CPU time, waiting for a core, quota, switches, threads, descriptors, and memory over time."""

from __future__ import annotations

import time
from collections.abc import Sequence

from perfloop.errors import CannotMeasure
from perfloop.host import cgroup, procfs
from perfloop.host.processes import descendants
from perfloop.model.evidence import ProcessObservation, Unavailable
from perfloop.model.target import Target
from perfloop.observe.base import Access, Observation
from perfloop.observe.threads import ThreadTally, read_threads

ID = "process"
NEEDS = "Linux /proc, and the right to look into the service's processes (same user, or root)"
COST = "under 0.5 % of a core; nothing in the service"

RSS_SAMPLES_MAX = 6000
PIDS_MAX = 256


class _Counters:
    """The counters of one process at one moment."""

    def __init__(self, pid: int) -> None:
        self.at_s = time.monotonic()
        self.stat = procfs.read_stat(pid)
        if self.stat.state in "ZX":
            raise procfs.gone(pid)
        quota = cgroup.throttling(pid)
        self.throttled_s = quota.throttled_s if quota else 0.0
        self.io = procfs.io_bytes(pid)


class _Watched:
    """One process over the window."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.first = _Counters(pid)
        self.threads = ThreadTally(pid)
        self.rss: list[tuple[float, int]] = []
        self.gone_after_s: float | None = None

    def sample(self, began_s: float) -> None:
        """Read the memory; a process that is gone is remembered as such."""
        now = time.monotonic()
        try:
            # The pid may belong to somebody else by now: its start time tells.
            stat = procfs.read_stat(self.pid)
            if stat.state in "ZX" or stat.started_s != self.first.stat.started_s:
                raise procfs.gone(self.pid)
            self.threads.sample()
            if len(self.rss) < RSS_SAMPLES_MAX:
                self.rss.append((round(now - began_s, 4), anonymous_bytes(self.pid)))
        except CannotMeasure:
            self.gone_after_s = now - began_s


class ProcessSession:
    """Counters at both ends of the window, memory between."""

    def __init__(self, pids: Sequence[int], rate_hz: float) -> None:
        self.interval_s = 1.0 / max(4.0, rate_hz)
        self._pids = tuple(dict.fromkeys(pids))[:PIDS_MAX]
        self._watched: list[_Watched] = []
        self._missing: list[Unavailable] = []
        self._began_s = time.monotonic()

    def begin(self) -> None:
        """Read the counters of every process."""
        self._began_s = time.monotonic()
        for pid in self._pids:
            try:
                self._watched.append(_Watched(pid))
            except CannotMeasure as error:
                self._missing.append(Unavailable(probe=ID, reason=f"{error.what}: {error.why}", fix=error.fix))
        self.sample()

    def sample(self) -> None:
        """Read the memory of every process that still runs."""
        for watched in self._watched:
            if watched.gone_after_s is None:
                watched.sample(self._began_s)

    def finish(self) -> Sequence[Observation]:
        """The differences; a process that ended meanwhile is told as ``Unavailable``, one that was born meanwhile counts from its start."""
        self.sample()
        found: list[Observation] = []
        for watched in self._watched:
            try:
                if watched.gone_after_s is not None:
                    raise procfs.gone(watched.pid)
                found.append(self._observation(watched))
            except CannotMeasure:
                after_s = watched.gone_after_s if watched.gone_after_s is not None else time.monotonic() - self._began_s
                found.append(
                    Unavailable(
                        probe=ID,
                        reason=f"process {watched.pid} ({watched.first.stat.name}) ended {after_s:.1f} s into the window",
                        fix="look at the service's log for why it ended, then run the command again",
                    )
                )
        return (*found, *self._born(), *self._missing)

    def close(self) -> None:
        """Nothing is held."""

    def _observation(self, watched: _Watched) -> ProcessObservation:
        first, last, threads = watched.first, _Counters(watched.pid), watched.threads.delta
        return ProcessObservation(
            window_s=last.at_s - first.at_s,
            pid=watched.pid,
            cpu_s=max(0.0, last.stat.cpu_s - first.stat.cpu_s),
            run_delay_s=threads.run_delay_s,
            throttled_s=max(0.0, last.throttled_s - first.throttled_s),  # of the whole control group: the kernel keeps no other
            voluntary_switches=threads.voluntary,
            involuntary_switches=threads.involuntary,
            threads=last.stat.threads,
            fds=_fds(watched.pid),
            major_faults=max(0, last.stat.major_faults - first.stat.major_faults),
            minor_faults=max(0, last.stat.minor_faults - first.stat.minor_faults),
            system_s=max(0.0, last.stat.system_s - first.stat.system_s),
            fd_limit=_fd_limit(watched.pid),
            swap_bytes=procfs.swapped_bytes(watched.pid),
            read_bytes=last.io[0] - first.io[0] if first.io and last.io else None,
            written_bytes=last.io[1] - first.io[1] if first.io and last.io else None,
            rss_series=tuple(watched.rss),
            children_pids=descendants(watched.pid),
        )

    def _born(self) -> list[ProcessObservation]:
        known = {watched.pid for watched in self._watched}
        found = []
        for pid in sorted({child for parent in known for child in descendants(parent)} - known)[:PIDS_MAX]:
            try:
                now, threads = _Counters(pid), read_threads(pid).values()
                found.append(
                    ProcessObservation(
                        window_s=now.at_s - self._began_s,
                        pid=pid,
                        cpu_s=now.stat.cpu_s,
                        run_delay_s=sum(thread.run_delay_s for thread in threads),
                        voluntary_switches=sum(thread.voluntary for thread in threads),
                        involuntary_switches=sum(thread.involuntary for thread in threads),
                        threads=now.stat.threads,
                        fds=_fds(pid),
                        major_faults=now.stat.major_faults,
                        rss_series=((round(now.at_s - self._began_s, 4), anonymous_bytes(pid)),),
                    )
                )
            except CannotMeasure:
                continue  # born and gone within the window
        return found


def start(target: Target, access: Access) -> ProcessSession | Unavailable:
    """A session over the service's processes."""
    if access.pids:
        return ProcessSession(access.pids, access.process_rate_hz)
    if not target.local:
        return Unavailable(probe=ID, reason=f"{target.host} is another machine", fix="run perfloop on the machine of the service to see its processes")
    return Unavailable(
        probe=ID,
        reason=f"no process is known that listens on port {target.port}",
        fix="run perfloop as the service's user or as root, or name the process: [target] process = PID",
    )


def anonymous_bytes(pid: int) -> int:
    """Resident memory that is no file's (heap, stacks); all resident memory where the kernel does not tell them apart. A leak shows in it, a mapped file does not."""
    value = procfs.read_status(pid).get("RssAnon", "").split()
    return int(value[0]) * 1024 if value else procfs.rss_bytes(pid)


def _fd_limit(pid: int) -> int | None:
    try:
        return procfs.fd_limit(pid)
    except CannotMeasure:
        return None


def _fds(pid: int) -> int:
    try:
        return procfs.fd_count(pid)
    except CannotMeasure:  # another user's
        return 0
