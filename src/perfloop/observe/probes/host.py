"""The machine: how busy each core was, what stalled, what was dropped."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from perfloop.errors import CannotMeasure
from perfloop.host import machine
from perfloop.host.processes import cpus_of, yields
from perfloop.host.procfs import all_cpu_seconds
from perfloop.model.evidence import HostObservation, Unavailable
from perfloop.model.signals import DiskLoad, OtherProcess
from perfloop.model.target import Target
from perfloop.observe.base import Access, Observation

ID = "host"
NEEDS = "Linux /proc; pressure values also need a kernel with PSI"
COST = "two readings of a dozen small files"

OTHERS_MAX, OTHERS_MIN_S = 10, 0.05
_RESOURCES = ("cpu", "memory", "io")


class _Reading:
    """All counters of the machine at one moment."""

    def __init__(self) -> None:
        self.at_s = time.monotonic()
        self.cores = machine.cpu_times()
        self.pressure = {name: machine.pressure(name) for name in _RESOURCES}
        self.vm = machine.vm_counters()
        self.network = _network()
        self.disks = machine.disk_counters()
        self.processes = all_cpu_seconds()


def _network() -> dict[str, int]:
    try:
        return machine.network_counters()
    except (CannotMeasure, ValueError):  # a network namespace without these files
        return {}


class HostSession:
    """Counters at the begin and at the end of the window."""

    interval_s = None

    def __init__(self, mine: set[int]) -> None:
        self._mine = mine  # first processes of the service, and of what it talks to
        self._first = _Reading()

    def begin(self) -> None:
        """Read the counters."""
        self._first = _Reading()

    def sample(self) -> None:
        """Nothing between."""

    def finish(self) -> Sequence[Observation]:
        """Read the counters again and return the difference."""
        last = _Reading()
        return (_difference(self._first, last).with_(others=_others(self._first, last, self._mine)),)

    def close(self) -> None:
        """Nothing is held."""


def start(target: Target, access: Access) -> HostSession | Unavailable:
    """A session for this machine; the target must be local, because these are our counters."""
    if not target.local:
        return Unavailable(probe=ID, reason=f"{target.host} is another machine", fix="run perfloop on the machine of the service to see its cores and memory")
    return HostSession({*access.pids, *(process.pid for process in target.processes), *(peer.pid for peer in target.peers if peer.pid)})


def _difference(first: _Reading, last: _Reading) -> HostObservation:
    window_s = max(1e-9, last.at_s - first.at_s)
    before = {core.cpu: core for core in first.cores}
    busy, steal_s, all_s = [], 0.0, 0.0
    for core in last.cores:
        old = before.get(core.cpu)
        if old is None:  # a core that came online in the window
            busy.append(0.0)
            continue
        # Shares of the core's own ticks, not of our clock: ticks are counted in 10 ms steps and may lag the clock by one.
        busy_s, core_steal_s = core.busy_s - old.busy_s, core.steal_s - old.steal_s
        total_s = busy_s + core_steal_s + max(0.0, core.idle_s - old.idle_s)
        busy.append(_share(busy_s, total_s))
        steal_s, all_s = steal_s + core_steal_s, all_s + total_s
    memory = machine.memory()
    stalls: dict[str, float | None] = {}
    for name in _RESOURCES:
        then, now = first.pressure[name], last.pressure[name]
        stalls[name] = _share(now.some_s - then.some_s, window_s) if then and now else None
    return HostObservation(
        window_s=window_s,
        cpu_count=len(last.cores),
        cpu_busy=tuple(busy),
        steal_share=_share(steal_s, all_s),
        psi_cpu_some=stalls["cpu"],
        psi_memory_some=stalls["memory"],
        psi_io_some=stalls["io"],
        memory_total_bytes=memory.get("MemTotal", 0),
        memory_available_bytes=memory.get("MemAvailable", 0),
        swap_in_pages=_delta(first.vm, last.vm, "pswpin"),
        swap_out_pages=_delta(first.vm, last.vm, "pswpout"),
        listen_overflows=_delta(first.network, last.network, "ListenOverflows"),
        tcp_retransmits=_delta(first.network, last.network, "RetransSegs"),
        tcp_segments_sent=_delta(first.network, last.network, "OutSegs"),
        tcp_opened=_delta(first.network, last.network, "ActiveOpens"),
        tcp_time_wait=machine.time_wait_sockets(),
        ports_range=machine.ports_range(),
        psi_io_full=_full(first, last, "io", window_s),
        psi_memory_full=_full(first, last, "memory", window_s),
        major_faults=_delta(first.vm, last.vm, "pgmajfault"),
        disks=_disks(first, last, window_s),
    )


def _others(first: _Reading, last: _Reading, mine: set[int]) -> tuple[OtherProcess, ...]:
    """The processes that used most CPU beside the service; ``related`` are perfloop, what the service talks to, and the children of both."""
    roots = {*mine, os.getpid()}
    found = []
    for pid, (cpu_s, name, _) in last.processes.items():
        before = first.processes.get(pid, (0.0, "", 0))[0]
        used = cpu_s - before
        if used < OTHERS_MIN_S or pid in mine:
            continue
        found.append(OtherProcess(pid=pid, name=name, cpu_s=used, cpus=cpus_of(pid), related=_descends(pid, roots, last), yields=yields(pid)))
    return tuple(sorted(found, key=lambda other: -other.cpu_s)[:OTHERS_MAX])


def _descends(pid: int, roots: set[int], reading: _Reading) -> bool:
    for _ in range(20):
        if pid in roots:
            return True
        if pid not in reading.processes:
            return False
        pid = reading.processes[pid][2]
    return False


def _full(first: _Reading, last: _Reading, name: str, window_s: float) -> float | None:
    then, now = first.pressure[name], last.pressure[name]
    return _share(now.full_s - then.full_s, window_s) if then and now else None


def _disks(first: _Reading, last: _Reading, window_s: float) -> tuple[DiskLoad, ...]:
    """The disks that did something in the window, busiest first."""
    found = []
    for name, now in last.disks.items():
        then = first.disks.get(name)
        if then is None:
            continue
        requests = now.reads - then.reads + now.writes - then.writes
        if requests <= 0:
            continue
        found.append(
            DiskLoad(
                name=name,
                busy_share=_share(now.busy_s - then.busy_s, window_s),
                queue_mean=max(0.0, now.queue_s - then.queue_s) / window_s,
                reads=now.reads - then.reads,
                writes=now.writes - then.writes,
                read_bytes=now.read_bytes - then.read_bytes,
                written_bytes=now.written_bytes - then.written_bytes,
                wait_mean_ms=max(0.0, now.requests_s - then.requests_s) / requests * 1000,
            )
        )
    return tuple(sorted(found, key=lambda disk: -disk.busy_share))


def _share(part: float, whole: float) -> float:
    return min(1.0, max(0.0, part / whole)) if whole > 0 else 0.0


def _delta(first: dict[str, int], last: dict[str, int], name: str) -> int:
    return max(0, last.get(name, 0) - first.get(name, 0))
