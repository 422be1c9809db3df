"""An autoscaling policy played second by second against a series of arrivals, with the real algorithm, start-up time and the delay of metrics.

A replica serves up to ``rate_max_per_s``; what comes above that waits in a queue and is served later. A second breaks the SLO where the arrivals of a
replica are above the measured highest rate that keeps it, or where the queue takes longer than the SLO allows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from perfloop.capacity.autoscaler import DOWN_DEFAULT, SYNC_S, UP_DEFAULT, Memory, Pod, Rules, desired, step
from perfloop.model.capacity import Simulated

SECONDS_MAX = 7 * 86_400
TIMELINE_POINTS = 120


@dataclass(frozen=True)
class Replica:
    """What one replica does, as it was measured."""

    rate_slo_per_s: float  # the highest rate that keeps the SLO
    rate_max_per_s: float  # where it saturates
    cpu_per_request_s: float
    cpu_idle_cores: float = 0.0
    cpu_request_cores: float = 1.0
    startup_s: float = 30.0
    queue_max_s: float = 1.0  # a longer queue breaks the SLO
    cost_per_hour: float = 0.0


@dataclass(frozen=True)
class Scaler:
    """A policy: the metric and its target, the bounds and the behaviour. ``metric`` cpu is a percentage of the request, rate is requests/s per replica."""

    name: str
    metric: str  # cpu or rate
    target: float
    minimum: int
    maximum: int
    up: Rules = UP_DEFAULT
    down: Rules = DOWN_DEFAULT


def replay(name: str, arrivals_per_s: Sequence[float], replica: Replica, scaler: Scaler, metric_every_s: int = 15, start: int | None = None) -> Simulated:
    """The outcome of the policy on arrivals given for each second, starting with as many replicas as the first second needs."""
    if not 0 < len(arrivals_per_s) <= SECONDS_MAX:
        raise ValueError(f"a simulation needs 1 to {SECONDS_MAX:,} seconds")
    began = max(scaler.minimum, min(scaler.maximum, start or ceil(arrivals_per_s[0] / replica.rate_slo_per_s)))
    pods = [-1e9] * began  # when each one was started, oldest first
    memory, queue = Memory(), 0.0
    used: deque[float] = deque(maxlen=metric_every_s)  # of each serving replica, by second
    scraped = 0.0
    broken_s = broken = arrived = held = 0.0
    most, timeline, every = began, [], max(1, len(arrivals_per_s) // TIMELINE_POINTS)
    for second, rate in enumerate(arrivals_per_s):
        ready = sum(1 for at in pods if second - at >= replica.startup_s)
        capacity = ready * replica.rate_max_per_s
        served = min(queue + rate, capacity)
        queue = max(0.0, queue + rate - served)
        each = served / ready if ready else 0.0
        used.append(100 * (replica.cpu_idle_cores + each * replica.cpu_per_request_s) / replica.cpu_request_cores if scaler.metric == "cpu" else each)
        if second % metric_every_s == 0:
            scraped = sum(used) / len(used)
        late = not ready or rate > ready * replica.rate_slo_per_s * 1.0001 or queue > capacity * replica.queue_max_s
        broken_s += late
        broken += rate * late
        arrived += rate
        held += len(pods)
        if second % every == 0:
            timeline.append((float(second), rate, float(len(pods))))
        if second % SYNC_S == 0:
            wanted = desired(len(pods), _seen(pods, second, scraped, replica, metric_every_s), scaler.target, *_kind(scaler))
            new = step(float(second), len(pods), wanted, scaler.minimum, scaler.maximum, memory, scaler.up, scaler.down)
            pods = pods[:new] + [float(second)] * max(0, new - len(pods))
            most = max(most, new)
    hours = held / 3600
    return Simulated(
        scenario=name,
        policy=scaler.name,
        duration_s=float(len(arrivals_per_s)),
        broken_s=broken_s,
        broken_share=broken / arrived if arrived else 0.0,
        replicas_max=most,
        replica_hours=hours,
        cost=hours * replica.cost_per_hour,
        timeline=tuple(timeline),
    )


def _kind(scaler: Scaler) -> tuple[Literal["utilization", "average"], bool]:
    return ("utilization", True) if scaler.metric == "cpu" else ("average", False)


def _seen(pods: Sequence[float], second: int, scraped: float, replica: Replica, metric_every_s: int) -> list[Pod]:
    """The pods as the controller sees them: a fresh one has no metric before its second scrape, and is not ready before it has started up."""
    found = []
    for at in pods:
        age = second - at
        ready = age >= replica.startup_s
        usage = None if age < 2 * metric_every_s else scraped if ready else 0.0
        changed = age - replica.startup_s if ready else age
        found.append(Pod(usage=usage, request=100.0, ready=ready, age_s=age, ready_for_s=changed, metric_window_s=float(metric_every_s)))
    return found


def choose(scenarios: Sequence[tuple[str, Sequence[float]]], replica: Replica, candidates: Sequence[Scaler], broken_share_max: float) -> tuple[Scaler, bool]:
    """The cheapest policy that keeps the SLO on all scenarios but for this share of requests; else the one that breaks it least, and False."""
    scored = []
    for scaler in candidates:
        runs = [replay(name, arrivals, replica, scaler) for name, arrivals in scenarios]
        worst = max(run.broken_share for run in runs)
        scored.append((worst > broken_share_max, sum(run.replica_hours for run in runs) if worst <= broken_share_max else worst, scaler))
    best = min(scored, key=lambda item: item[:2])
    return best[2], not best[0]


def candidates(metric: str, utilisation_at_slo: float, rate_slo_per_s: float, minima: Sequence[int], maximum: int) -> list[Scaler]:
    """Targets from 35 to 90 % of what a replica does at its highest rate under the SLO, each with several least numbers of replicas."""
    found = []
    for share in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35):
        target = float(max(1, int(share * utilisation_at_slo))) if metric == "cpu" else share * rate_slo_per_s
        found += [Scaler("derived", metric, target, minimum, maximum) for minimum in minima]
    return found


def spike(base_per_s: float, peak_per_s: float, ramp_s: int = 30, hold_s: int = 600, before_s: int = 300, after_s: int = 900) -> list[float]:
    """A quiet stretch, a rise within ``ramp_s``, the peak, and the quiet again."""
    rise = [base_per_s + (peak_per_s - base_per_s) * (k + 1) / ramp_s for k in range(ramp_s)]
    return [base_per_s] * before_s + rise + [peak_per_s] * hold_s + rise[::-1] + [base_per_s] * after_s
