"""What the resources of a target have done so far, read before and after each window of a sweep."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from perfloop.errors import CannotMeasure
from perfloop.host import cgroup
from perfloop.host.processes import cpu_seconds, descendants
from perfloop.host.procfs import io_bytes, read_stat, rss_bytes
from perfloop.model.target import Peer, PeerKind, Target

DATABASES = (PeerKind.POSTGRESQL, PeerKind.MYSQL, PeerKind.MONGODB, PeerKind.REDIS, PeerKind.MEMCACHED)
#: runtimes in which one process computes on one core at a time
ONE_CORE = ("python", "node", "ruby", "php")
BUSY_SHARE = 0.05


@dataclass
class Counters:
    """Cumulative seconds and bytes by resource at one moment; ``memory_bytes`` is what is resident now."""

    service_cpu: dict[int, float] = field(default_factory=dict)  # by pid
    database_cpu: dict[str, dict[int, float]] = field(default_factory=dict)  # by peer, by pid
    disk_bytes: float = 0.0
    memory_bytes: float = 0.0


def read(target: Target, pids: Iterable[int]) -> Counters:
    """All counters now; a process that ended meanwhile is left out."""
    found = Counters()
    for pid in pids:
        try:
            found.service_cpu[pid] = cpu_seconds((pid,))
            found.memory_bytes += rss_bytes(pid)
        except CannotMeasure:
            continue
        try:
            found.disk_bytes += sum(io_bytes(pid) or (0, 0))
        except CannotMeasure:
            continue
    for peer in databases(target):
        assert peer.pid is not None
        members = {}
        for pid in (peer.pid, *descendants(peer.pid)):
            try:
                members[pid] = cpu_seconds((pid,))
            except CannotMeasure:
                continue
        found.database_cpu[name_of(peer)] = members
    return found


def databases(target: Target) -> list[Peer]:
    """The peers that are databases or caches and whose processes are seen here, each process once."""
    seen: dict[int, Peer] = {}
    for peer in target.peers:
        if peer.kind in DATABASES and peer.pid is not None:
            top = _top(peer.pid)
            seen.setdefault(top, peer.with_(pid=top))
    return list(seen.values())


def _top(pid: int) -> int:
    """The first process of the same name on the way up: a backend's postmaster."""
    try:
        stat = read_stat(pid)
        parent = read_stat(stat.parent_pid) if stat.parent_pid > 1 else None
    except CannotMeasure:
        return pid
    return _top(parent.pid) if parent is not None and parent.name == stat.name else pid


def name_of(peer: Peer) -> str:
    """``postgresql 127.0.0.1:5432``."""
    return f"{peer.kind.value} {peer.host}:{peer.port}" if peer.port else f"{peer.kind.value} {peer.host}"


def spent(before: dict[int, float], after: dict[int, float]) -> float:
    """Seconds between two readings, of the processes that are there now; one that is new counts from its start."""
    return sum(max(0.0, value - before.get(pid, 0.0)) for pid, value in after.items())


def parallelism(target: Target, before: Counters, after: Counters) -> tuple[float | None, str]:
    """How many cores the service's busy processes can use at once, and what says so; None where no process is seen."""
    if not target.processes or not after.service_cpu:
        return None, "no process of the service is seen"
    runtime = target.processes[0].runtime
    took = {pid: value - before.service_cpu.get(pid, 0.0) for pid, value in after.service_cpu.items()}
    whole = sum(took.values()) or 1.0
    busy = [pid for pid, value in took.items() if value >= BUSY_SHARE * whole] or list(took)
    cores = sorted({cpu for process in target.processes for cpu in process.cpus})
    ceilings = [float(len(cores) or target.cpu_count)]
    reasons = [f"{len(cores) or target.cpu_count} core{'s' if (len(cores) or target.cpu_count) != 1 else ''} that it may run on"]
    each = sum(_threads(pid, runtime) for pid in busy)
    if each < ceilings[0]:
        ceilings.append(float(each))
        reasons.append(f"{len(busy)} busy {runtime if runtime != 'unknown' else ''} process{'es' if len(busy) > 1 else ''}, one core each".replace("  ", " "))
    quota = cgroup.limits(busy[0]).cpu_cores
    if quota is not None and quota < min(ceilings):
        ceilings.append(quota)
        reasons.append(f"its control group's quota of {quota:g} cores")
    least = min(range(len(ceilings)), key=lambda k: ceilings[k])
    return ceilings[least], reasons[least]


def _threads(pid: int, runtime: str) -> int:
    if runtime in ONE_CORE:
        return 1
    try:
        return max(1, read_stat(pid).threads)
    except CannotMeasure:
        return 1
