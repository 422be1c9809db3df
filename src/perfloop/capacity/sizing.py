"""What to add for a rate, and what it costs: present shape more often, larger machines, and what the shared resources then need.

A replica carries what one was measured to carry under the SLO; several carry the sum until a shared resource ends it. What was not measured is named as
an assumption in each option: that cores add up, that a vCPU is as fast as a core here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from perfloop.capacity.instances import HOURS_PER_MONTH, Shape, Table
from perfloop.model.capacity import Demand, LoadPoint, Need, Option, Replicas

GIB = 2**30
MEMORY_SHARE_MAX = 0.8
#: of a shared resource's saturation that may be used: above it waiting grows faster than the load
SHARED_SHARE_MAX = 0.8
REPLICAS_MAX, WORKERS_MAX = 1_000, 256


@dataclass(frozen=True)
class Service:
    """The service as it was measured: what one replica carries under the SLO, and what it consists of."""

    rate_slo_per_s: float
    cores: float
    workers: int = 1
    memory_bytes: int = 0  # of all its processes
    pool: int | None = None  # connections of one worker to the database, at most
    connections_max: int | None = None  # of the database
    reads_share: float | None = None  # of its queries


def needs(demands: Sequence[Demand], rate_slo_per_s: float | None, now_per_s: float, factors: Sequence[float]) -> tuple[Need, ...]:
    """For each growth: the share of each resource that it takes, those that do not suffice in the order of saturation, and whether the SLO is kept."""
    found = []
    for factor in factors:
        rate = now_per_s * factor
        short = [d.resource for d in demands if d.saturates_at_per_s is not None and rate >= d.saturates_at_per_s.value]
        used = {d.resource: round((d.idle + d.demand.value * rate) / d.capacity, 4) for d in demands if d.capacity and d.demand is not None}
        keeps = None if rate_slo_per_s is None else rate <= rate_slo_per_s
        found.append(Need(factor=factor, rate_per_s=rate, short=tuple(short), used=used, keeps_slo=keeps))
    return tuple(found)


def options(
    rate_per_s: float, service: Service, demands: Sequence[Demand], points: Sequence[LoadPoint], table: Table, copies: Sequence[Replicas] = ()
) -> tuple[Option, ...]:
    """Ways to serve a rate, the cheapest that keeps the SLO marked as chosen; first how it is now."""
    shared, shared_changes = _shared(rate_per_s, service, demands)
    now = Option(
        kind="as it is",
        title="as it is",
        rate_per_s=service.rate_slo_per_s,
        workers=service.workers,
        p95_s=latency_at(points, rate_per_s),
        keeps_slo=rate_per_s <= service.rate_slo_per_s,
        measured=True,
    )
    found = [now, _replicas(rate_per_s, service, points, shared, shared_changes, copies), _workers(rate_per_s, service, points, shared, shared_changes)]
    if shared_changes:
        found.append(_database(shared, demands, shared_changes))
    for provider in table.instances:
        for shape in provider.shapes:
            option = _instances(rate_per_s, service, points, shape, provider.provider, shared, shared_changes)
            if option is not None:
                found.append(option)
    return _chosen(tuple(found))


def _replicas(rate: float, service: Service, points: Sequence[LoadPoint], shared: float | None, changes: tuple[str, ...], copies: Sequence[Replicas]) -> Option:
    """As many as carry the rate; by what copies behind a proxy were measured to bring, where as many were."""
    tried = next((one for one in copies if one.count * one.efficiency * service.rate_slo_per_s >= rate), None)
    count = tried.count if tried else min(REPLICAS_MAX, ceil(rate / service.rate_slo_per_s - 1e-9))
    carries = count * service.rate_slo_per_s * (tried.efficiency if tried else 1.0)
    rests = "replicas share nothing but the shared resources named, and the load balancer spreads evenly"
    if copies and not tried:
        last = copies[-1]
        rests += f"; measured here: {last.count} copies reach {last.efficiency:.0%} of {last.count} times one"
    return Option(
        kind="horizontal",
        title=f"{count} replica{'s' if count > 1 else ''} as the present one ({service.cores:g} core{'s' if service.cores != 1 else ''} each)",
        rate_per_s=carries,
        replicas=count,
        workers=service.workers,
        p95_s=latency_at(points, rate / count),
        keeps_slo=_keeps(rate, carries, shared, changes),
        changes=(*_connections(count * service.workers, service), *changes),
        assumes="" if count == 1 or tried else rests,
        measured=count == 1 or tried is not None,
    )


def _workers(rate: float, service: Service, points: Sequence[LoadPoint], shared: float | None, changes: tuple[str, ...]) -> Option:
    each = service.rate_slo_per_s / service.workers
    count = min(WORKERS_MAX, ceil(rate / each - 1e-9))
    cores = service.cores / service.workers * count
    carries = count * each
    return Option(
        kind="vertical",
        title=f"{count} worker{'s' if count > 1 else ''} on one machine with {cores:g} core{'s' if cores != 1 else ''}",
        rate_per_s=carries,
        workers=count,
        p95_s=latency_at(points, rate / count * service.workers),
        keeps_slo=_keeps(rate, carries, shared, changes),
        changes=(*((f"workers {service.workers} → {count}",) if count != service.workers else ()), *_connections(count, service), *changes),
        assumes="" if count == service.workers else "each worker carries what the present ones carry: measure it with that many workers before you rely on it",
        measured=count == service.workers,
    )


def _instances(
    rate: float, service: Service, points: Sequence[LoadPoint], shape: Shape, provider: str, shared: float | None, changes: tuple[str, ...]
) -> Option | None:
    """As many of one shape as carry the rate; None where not even one worker fits its memory."""
    per_worker = max(1, service.memory_bytes) / service.workers
    cores_per_worker = service.cores / service.workers
    workers = min(int(shape.vcpu * shape.speed / cores_per_worker + 1e-9), int(MEMORY_SHARE_MAX * shape.memory_gib * GIB / per_worker), WORKERS_MAX)
    if workers < 1:
        return None
    each = workers * service.rate_slo_per_s / service.workers
    count = ceil(rate / each - 1e-9)
    if count > REPLICAS_MAX:
        return None
    return Option(
        kind="horizontal",
        title=f"{count} × {shape.name}, {workers} worker{'s' if workers > 1 else ''} each",
        rate_per_s=count * each,
        replicas=count,
        workers=workers,
        provider=provider,
        instance=shape.name,
        cost_per_month=round(count * shape.per_hour * HOURS_PER_MONTH, 2),
        p95_s=latency_at(points, rate / (count * workers) * service.workers),
        keeps_slo=_keeps(rate, count * each, shared, changes),
        changes=(*_connections(count * workers, service), *changes),
        assumes=f"a vCPU of {shape.name} does {shape.speed:g} × a core here, and workers add up"
        + ("; the cost of the database is not included" if shared else ""),
    )


def _shared(rate: float, service: Service, demands: Sequence[Demand]) -> tuple[float | None, tuple[str, ...]]:
    """The rate that the resources which all replicas share allow, and what they need for this one."""
    ends = [d for d in demands if not d.scales and d.saturates_at_per_s is not None]
    if not ends:
        return None, ()
    changes = []
    for demand in ends:
        assert demand.saturates_at_per_s is not None
        need = rate / (SHARED_SHARE_MAX * demand.saturates_at_per_s.value)
        if need > 1:
            changes.append(f"{demand.resource}: {need:.1f} × as much of it is needed{_relief(demand, service)}")
    return min(d.saturates_at_per_s.value for d in ends if d.saturates_at_per_s is not None), tuple(changes)


def _relief(demand: Demand, service: Service) -> str:
    if demand.kind != "database" and demand.kind != "connections":
        return ""
    if service.reads_share is None:
        return ": a larger machine; read replicas where most queries only read (their share was not seen)"
    if service.reads_share >= 0.7:
        return f": read replicas can take the {service.reads_share:.0%} of its queries that only read, or a larger machine"
    return f": a larger machine, or a sharding key and a queue for the writes ({1 - service.reads_share:.0%} of its queries)"


def _connections(workers: int, service: Service) -> tuple[str, ...]:
    """Pool and max_connections together: more workers bring their pools along."""
    if not service.pool or workers <= service.workers:
        return ()
    wanted = workers * service.pool
    if service.connections_max is None:
        return (f"{wanted} database connections at most ({workers} pools of {service.pool}): check max_connections",)
    if wanted > SHARED_SHARE_MAX * service.connections_max:
        fits = int(SHARED_SHARE_MAX * service.connections_max / workers)
        return (f"{workers} pools of {service.pool} do not fit max_connections = {service.connections_max}: pools of {fits}, or a pooler before the database",)
    return (f"{wanted} of max_connections = {service.connections_max}",)


def _database(shared: float | None, demands: Sequence[Demand], changes: tuple[str, ...]) -> Option:
    names = ", ".join(d.resource for d in demands if not d.scales and d.saturates_at_per_s is not None and d.saturates_at_per_s.value == shared)
    return Option(
        kind="database", title=f"relieve what all replicas share: {names}", rate_per_s=shared or 0.0, keeps_slo=None, changes=changes,
        assumes="the service itself is scaled as in another option",
    )  # fmt: skip


def _keeps(rate: float, carries: float, shared: float | None, changes: tuple[str, ...]) -> bool | None:
    """None where it rests on a relief of the shared resources that was not measured."""
    if rate > carries * 1.0001:
        return False
    return None if shared is not None and changes else True


def latency_at(points: Sequence[LoadPoint], rate_per_s: float) -> float | None:
    """The measured p95 at a rate of one replica, between the two nearest windows; None beyond them."""
    known = sorted((point.achieved_per_s, point.p95_s) for point in points if point.ok and point.p95_s is not None and point.error_rate < 0.05)
    if not known or rate_per_s > known[-1][0] * 1.001:
        return None
    if rate_per_s <= known[0][0]:
        return known[0][1]
    for (low, p_low), (high, p_high) in pairwise(known):
        if low <= rate_per_s <= high and p_low is not None and p_high is not None:
            return p_low + (p_high - p_low) * ((rate_per_s - low) / (high - low) if high > low else 0.0)
    return known[-1][1]


def _chosen(found: tuple[Option, ...]) -> tuple[Option, ...]:
    """Of those that cost something: the cheapest of each provider stays, and the cheapest of all that keep the SLO is the choice."""
    priced: dict[str, Option] = {}
    for option in found:
        if option.cost_per_month is not None and option.keeps_slo is not False:
            best = priced.get(option.provider)
            if best is None or (option.cost_per_month, option.replicas) < (best.cost_per_month or 0.0, best.replicas):
                priced[option.provider] = option
    if found and found[0].keeps_slo:
        return (found[0].with_(chosen=True), *found[1:3], *priced.values())
    cheapest = min(priced.values(), key=lambda option: option.cost_per_month or 0.0) if priced else None
    kept = [option for option in found if option.cost_per_month is None] + sorted(priced.values(), key=lambda option: option.cost_per_month or 0.0)
    return tuple(option.with_(chosen=True) if option is cheapest else option for option in kept)
