"""What can be seen of each resource while load is sent, as demands by the utilisation law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from perfloop.capacity.bursts import Burst, Drain
from perfloop.capacity.demands import demand, without_wakes
from perfloop.capacity.sections import held, sections
from perfloop.change import settings
from perfloop.errors import PerfloopError
from perfloop.host import cgroup, machine
from perfloop.host.files import read_limited
from perfloop.host.processes import cpus_of
from perfloop.loop import counters
from perfloop.loop.counters import Counters
from perfloop.loop.prepare import Session
from perfloop.model.capacity import Demand, LoadPoint
from perfloop.model.run import Window
from perfloop.observe.base import ObservedParts
from perfloop.observe.source import snippets

OPEN = "the most that were open; the pool may open more"

Idle = tuple[Counters, Counters, float] | None


@dataclass
class Seen:
    """One window of the gentle sweep: its rate, and what was used of each resource meanwhile."""

    window: Window
    before: Counters
    after: Counters
    parts: ObservedParts | None = None
    bursts_per_s: float | None = None  # where requests came in bursts

    def wakes_per_s(self, busy_share: float) -> float:
        """How often the service began to work after a rest: once a burst; with single arrivals for each that finds it idle (M/G/1)."""
        return self.bursts_per_s if self.bursts_per_s is not None else self.rate_per_s * max(0.0, 1 - busy_share)

    @property
    def rate_per_s(self) -> float:
        """Requests answered a second."""
        return sum(step.ok for step in self.window.steps) / max(self.window.duration_s, 1e-9)


@dataclass
class Reach:
    """What the gentle sweep found."""

    seen: list[Seen] = field(default_factory=list)
    looks: list[Seen] = field(default_factory=list)
    points: list[LoadPoint] = field(default_factory=list)
    demands: tuple[Demand, ...] = ()
    idle: tuple[Counters, Counters, float] | None = None  # before and after some seconds without load
    gentle_max_per_s: float = 0.0
    notes: list[str] = field(default_factory=list)
    least_s: float | None = None  # the least mean latency of all windows
    bursts: list[Burst] = field(default_factory=list)
    in_bursts: list[Seen] = field(default_factory=list)  # the windows of bursts
    drain: Drain = field(default_factory=lambda: Drain(None, "no bursts were sent"))


def demands_of(session: Session, reach: Reach) -> list[Demand]:
    """Every resource that can be seen, with what a request takes of it."""
    target, seen = session.meter.target, reach.seen
    found: list[Demand] = []
    if seen:
        found.append(_service_cpu(session, [*seen, *reach.in_bursts], reach.idle))
        found += [
            item for item in (_cores(session, [*seen, *reach.in_bursts], reach.idle), _memory(session, seen), _disk(seen), _network(seen)) if item is not None
        ]
        found += [_database_cpu(session, [*seen, *reach.in_bursts], counters.name_of(peer), peer.pid or 0, reach.idle) for peer in counters.databases(target)]
    if reach.looks:
        found += _connections(session, reach.looks)
        found += _held(session, reach.looks)
    return [item for item in found if item.demand is not None or item.note]


def through_origin(session: Session, seen: Seen) -> list[Demand]:
    """CPU demands by one window alone, for a first idea."""
    return [
        _service_cpu(session, [seen], None),
        *(_database_cpu(session, [seen], counters.name_of(p), p.pid or 0, None) for p in counters.databases(session.meter.target)),
    ]


def _service_cpu(session: Session, seen: Sequence[Seen], idle: Idle) -> Demand:
    target = session.meter.target
    first = target.processes[0] if target.processes else None
    capacity, source = counters.parallelism(target, seen[-1].before, seen[-1].after)
    points = [(one.rate_per_s, counters.spent(one.before.service_cpu, one.after.service_cpu) / one.window.duration_s) for one in seen]
    rest = counters.spent(idle[0].service_cpu, idle[1].service_cpu) / idle[2] if idle else None
    name = f"CPU of {first.name if first else 'the service'}"
    return demand(name, "cpu", "cores", _awake(seen, points, rest, capacity) if first else (), capacity, source, idle=rest)


def _awake(seen: Sequence[Seen], points: list[tuple[float, float]], idle: float | None, capacity: float | None) -> list[tuple[float, float]]:
    if idle is None or not capacity:
        return points
    return without_wakes(points, [one.wakes_per_s(used / capacity) for one, (_, used) in zip(seen, points, strict=True)], idle)


def _cores(session: Session, seen: Sequence[Seen], idle: Idle) -> Demand | None:
    """The service together with the databases that run on the same cores, where there are any: what ends such a machine is their sum.

    By the processes' own clocks: what else a core does (other users, low priorities that give way) is not what a request takes.
    """
    target = session.meter.target
    cpus = {cpu for process in target.processes for cpu in process.cpus}
    beside = [peer for peer in counters.databases(target) if cpus and set(cpus_of(peer.pid or 0)) <= cpus]
    if not beside:
        return None
    names = [counters.name_of(peer) for peer in beside]

    def busy(before: Counters, after: Counters, seconds: float) -> float:
        spent = counters.spent(before.service_cpu, after.service_cpu)
        return (spent + sum(counters.spent(before.database_cpu.get(name, {}), after.database_cpu.get(name, {})) for name in names)) / seconds

    rest = busy(*idle) if idle else None
    points = [(one.rate_per_s, busy(one.before, one.after, one.window.duration_s)) for one in seen]
    name = f"core{'s' if len(cpus) > 1 else ''} {','.join(map(str, sorted(cpus)))} with {', '.join(sorted({peer.kind.value for peer in beside}))} beside it"
    most = float(len(cpus))
    return demand(name, "cpu", "cores", _awake(seen, points, rest, most), most, "cores that the service may run on", scales=False, idle=rest)


def _database_cpu(session: Session, seen: Sequence[Seen], name: str, pid: int, idle: Idle) -> Demand:
    cores = cpus_of(pid)
    rest = counters.spent(idle[0].database_cpu.get(name, {}), idle[1].database_cpu.get(name, {})) / idle[2] if idle else None
    points = [
        (one.rate_per_s, counters.spent(one.before.database_cpu.get(name, {}), one.after.database_cpu.get(name, {})) / one.window.duration_s) for one in seen
    ]
    most = float(len(cores) or session.meter.target.cpu_count)
    return demand(f"CPU of {name}", "database", "cores", _awake(seen, points, rest, most), most, "cores that it may run on", scales=False, idle=rest)


def _memory(session: Session, seen: Sequence[Seen]) -> Demand | None:
    pids = session.meter.pids
    limit = cgroup.limits(pids[0]).memory_bytes if pids else None
    total = limit if limit is not None else machine.memory().get("MemTotal")
    points = [(one.rate_per_s, one.after.memory_bytes) for one in seen if one.after.memory_bytes]
    source = "the control group's limit" if limit is not None else "memory of this machine"
    return demand("memory of the service", "memory", "bytes", points, float(total) if total else None, source) if points else None


def _disk(seen: Sequence[Seen]) -> Demand | None:
    points = [(one.rate_per_s, (one.after.disk_bytes - one.before.disk_bytes) / one.window.duration_s) for one in seen]
    if not any(used > 0 for _, used in points):
        return None
    return demand("disk of the service", "disk", "bytes/s", points, None, "the disk's rate was not measured")


def _network(seen: Sequence[Seen]) -> Demand | None:
    points = [(one.rate_per_s, sum(step.bytes_in for step in one.window.steps) / one.window.duration_s) for one in seen]
    return demand("network: answers", "network", "bytes/s", points, None, "the link's rate is not told for this address") if points else None


def _connections(session: Session, looks: Sequence[Seen]) -> list[Demand]:
    """Connections in use at once, as the database sees them where a DSN is configured, else by who spoke last on the wire; the pool by its setting, or as seen."""
    pool, source = configured_pool(session)
    by_database = [
        (one.rate_per_s, p.sessions_active_mean + p.sessions_idle_in_transaction_mean, p.sessions_max) for one in looks if one.parts for p in one.parts.postgres
    ]
    if by_database:
        seen = float(max(row[2] for row in by_database)) or None
        size, why = (pool, source) if pool is not None else (seen, OPEN)
        return [demand("connections to postgresql", "connections", "connections", [row[:2] for row in by_database], size, why)]
    found: dict[str, list[tuple[float, float, int]]] = {}
    for one in looks:
        for peer in one.parts.sockets.peers if one.parts and one.parts.sockets else ():
            if peer.waiting_s is not None and peer.kind in [kind.value for kind in counters.DATABASES] + ["http"]:
                found.setdefault(f"{peer.kind} {peer.host}:{peer.port}", []).append(
                    (one.rate_per_s, peer.waiting_s / max(one.window.duration_s, 1e-9), peer.connections)
                )
    answer = []
    for name, rows in found.items():
        database = not name.startswith("http")
        most = float(max(row[2] for row in rows))
        held_at_most = (pool, source) if database and pool is not None else (most if database else None, OPEN if database else "the size of its pool")
        answer.append(demand(f"connections to {name}", "connections", "connections", [row[:2] for row in rows], *held_at_most))
    return answer


def _held(session: Session, looks: Sequence[Seen]) -> list[Demand]:
    """Locks and pools by the stacks that hold them."""
    root = session.meter.target.source_root
    stacks = [stack for one in looks if one.parts for stack in one.parts.stacks]
    known = sections(snippets(stacks, root))
    pool, source = configured_pool(session)
    rows: dict[str, list[tuple[float, float]]] = {}
    kinds: dict[str, str] = {}
    for one in looks:
        for item in held(known, one.parts.stacks if one.parts else ()):
            name = f"{'lock' if item.section.kind == 'lock' else 'pool'} {item.section.what} at {item.section.file.rpartition('/')[2]}:{item.section.line}"
            rows.setdefault(name, []).append((one.rate_per_s, item.holders))
            kinds[name] = item.section.kind
    return [
        demand(name, "lock", "holders", points, 1.0, "one holder at a time")
        if kinds[name] == "lock"
        else demand(name, "connections", "holders", points, pool, source or "the size of this pool")
        for name, points in rows.items()
    ]


def configured_pool(session: Session) -> tuple[float | None, str]:
    """The size of the service's pool: as the user gave it, else from the setting that answers pool-exhausted."""
    given = session.config.capacity.pool_size
    if given is not None:
        return float(given), "capacity.pool_size"
    for setting in session.config.target.settings:
        if "pool-exhausted" in setting.answers:
            try:
                path = (session.base_dir / setting.file).absolute()
                value = settings.get(read_limited(path, 2**20), path.name, setting.key)
            except PerfloopError:
                continue
            if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
                return float(value), f"{setting.key} in {setting.file}"
    return None, ""
