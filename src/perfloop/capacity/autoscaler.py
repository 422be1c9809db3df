"""The algorithm of the Kubernetes HorizontalPodAutoscaler (autoscaling/v2), as a pure function of pods, metrics, earlier recommendations and events.

Checked against the cases that Kubernetes itself documents: tests/cases/hpa.
Sources: kubernetes.io, "Horizontal Pod Autoscaling" (algorithm details, configurable scaling behavior); kubernetes/kubernetes,
pkg/controller/podautoscaler (replica_calculator, horizontal).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Literal

TOLERANCE = 0.1
CPU_INITIALIZATION_S, INITIAL_READINESS_S = 300.0, 30.0
SYNC_S = 15.0


@dataclass(frozen=True)
class Pod:
    """One pod as the controller sees it. ``usage`` None: no metric has arrived. ``request`` is what the usage is a share of, in the same unit.

    ``age_s`` since it started, ``ready_for_s`` since its readiness last changed, ``metric_age_s`` since its metric was taken over ``metric_window_s``.
    """

    usage: float | None
    request: float = 1000.0
    ready: bool = True
    phase: Literal["Running", "Pending", "Failed", "Succeeded"] = "Running"
    deleted: bool = False
    age_s: float = 3600.0
    ready_for_s: float = 3600.0
    metric_age_s: float = 0.0
    metric_window_s: float = 30.0


@dataclass(frozen=True)
class Groups:
    """Pods by how their metric is read: as it is, not yet (on a scale-up they count as 0), or missing."""

    ready: tuple[Pod, ...]
    unready: tuple[Pod, ...]
    missing: tuple[Pod, ...]


def group(pods: Sequence[Pod], cpu: bool, initialization_s: float = CPU_INITIALIZATION_S, readiness_s: float = INITIAL_READINESS_S) -> Groups:
    """Failed and deleted pods are left out. For CPU, a pod that starts up is not yet believed; for other metrics only a pending one is not."""
    ready, unready, missing = [], [], []
    for pod in pods:
        if pod.deleted or pod.phase == "Failed":
            continue
        if pod.phase == "Pending":
            unready.append(pod)
        elif pod.usage is None:
            missing.append(pod)
        elif cpu and _starting(pod, initialization_s, readiness_s):
            unready.append(pod)
        else:
            ready.append(pod)
    return Groups(tuple(ready), tuple(unready), tuple(missing))


def _starting(pod: Pod, initialization_s: float, readiness_s: float) -> bool:
    if pod.age_s < initialization_s:
        return not pod.ready or pod.ready_for_s - pod.metric_age_s < pod.metric_window_s
    return not pod.ready and pod.age_s - pod.ready_for_s < readiness_s


def desired(
    current: int,
    pods: Sequence[Pod],
    target: float,
    kind: Literal["utilization", "average"] = "utilization",
    cpu: bool = True,
    tolerance: float = TOLERANCE,
    initialization_s: float = CPU_INITIALIZATION_S,
    readiness_s: float = INITIAL_READINESS_S,
) -> int | None:
    """Replicas wanted by one metric: ``utilization`` is a percentage of the requests, ``average`` a value per pod. None: no metric of any pod that counts."""
    groups = group(pods, cpu, initialization_s, readiness_s)
    if not groups.ready:
        return None
    ratio = _ratio([(pod.usage or 0.0, pod.request) for pod in groups.ready], target, kind)
    rebalance = bool(groups.unready) and ratio > 1
    if not rebalance and not groups.missing:
        return current if abs(1 - ratio) <= tolerance else _ceil(ratio * len(groups.ready))
    counted = [(pod.usage or 0.0, pod.request) for pod in groups.ready]
    if ratio < 1:  # missing pods are taken to be at their request, or at the target where that is more
        full = max(1.0, target / 100) if kind == "utilization" else 1.0
        counted += [(pod.request * full if kind == "utilization" else target, pod.request) for pod in groups.missing]
    elif ratio > 1 or kind == "average":
        counted += [(0.0, pod.request) for pod in groups.missing]
    if rebalance:
        counted += [(0.0, pod.request) for pod in groups.unready]
    again = _ratio(counted, target, kind)
    if abs(1 - again) <= tolerance or (ratio < 1 < again) or (again < 1 < ratio):
        return current
    wanted = _ceil(again * len(counted))
    if (again < 1 and wanted > current) or (again > 1 and wanted < current):
        return current
    return wanted


def desired_by_total(current: int, total: float, target: float, kind: Literal["value", "average"], ready: int, tolerance: float = TOLERANCE) -> int:
    """Replicas wanted by a metric of another object or from outside: its value against the target, or spread over the replicas."""
    if kind == "average":
        ratio = total / (target * current) if current else 2.0
        return current if abs(1 - ratio) <= tolerance else _ceil(total / target)
    if current == 0:
        return _ceil(total / target)
    ratio = total / target
    return current if abs(1 - ratio) <= tolerance else _ceil(ratio * ready)


def _ratio(counted: Sequence[tuple[float, float]], target: float, kind: str) -> float:
    """Usage against the target; the controller cuts both to whole numbers, and so do we."""
    if kind == "utilization":
        return int(sum(usage for usage, _ in counted) * 100 / sum(request for _, request in counted)) / target
    return int(sum(usage for usage, _ in counted) / len(counted)) / target


def _ceil(value: float) -> int:
    return ceil(value - 1e-9 * max(1.0, abs(value)))


@dataclass(frozen=True)
class Policy:
    """At most ``value`` pods, or per cent of the replicas, in ``period_s``."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_s: int


@dataclass(frozen=True)
class Rules:
    """One direction of the scaling behaviour. ``select`` Max allows the largest change of its policies, Min the smallest, Disabled none."""

    policies: tuple[Policy, ...]
    stabilization_s: int = 0
    select: Literal["Max", "Min", "Disabled"] = "Max"


UP_DEFAULT = Rules((Policy("Percent", 100, 15), Policy("Pods", 4, 15)), 0)
DOWN_DEFAULT = Rules((Policy("Percent", 100, 15),), 300)


@dataclass
class Memory:
    """What the controller remembers: recommendations and scale events, as (time, replicas) and (time, change)."""

    recommendations: list[tuple[float, int]] = field(default_factory=list)
    ups: list[tuple[float, int]] = field(default_factory=list)
    downs: list[tuple[float, int]] = field(default_factory=list)


def stabilized(now_s: float, current: int, wanted: int, memory: Memory, up: Rules = UP_DEFAULT, down: Rules = DOWN_DEFAULT) -> int:
    """Up only to the least that was recommended within the window, down only to the most; the recommendation is remembered."""
    least = min([wanted, *(count for at, count in memory.recommendations if at > now_s - up.stabilization_s)])
    most = max([wanted, *(count for at, count in memory.recommendations if at > now_s - down.stabilization_s)])
    keep_s = max(up.stabilization_s, down.stabilization_s)
    memory.recommendations = [(at, count) for at, count in memory.recommendations if at > now_s - keep_s] + [(now_s, wanted)]
    return least if current < least else most if current > most else current


def limited(
    now_s: float, current: int, wanted: int, minimum: int, maximum: int, memory: Memory, up: Rules = UP_DEFAULT, down: Rules = DOWN_DEFAULT
) -> tuple[int, str]:
    """The recommendation within the bounds and the allowed rate of change, and which of them held it."""
    if wanted > current:
        allowed = max(current, _limit(now_s, current, memory, up, 1))
        edge, why = (maximum, "TooManyReplicas") if maximum <= allowed else (allowed, "ScaleUpLimit")
        return (edge, why) if wanted > edge else (wanted, "DesiredWithinRange")
    if wanted < current:
        allowed = min(current, _limit(now_s, current, memory, down, -1))
        edge, why = (minimum, "TooFewReplicas") if minimum >= allowed else (allowed, "ScaleDownLimit")
        return (edge, why) if wanted < edge else (wanted, "DesiredWithinRange")
    return wanted, "DesiredWithinRange"


def _limit(now_s: float, current: int, memory: Memory, rules: Rules, sign: int) -> int:
    if rules.select == "Disabled" or not rules.policies:
        return current
    proposed = []
    for policy in rules.policies:
        added = sum(change for at, change in memory.ups if at > now_s - policy.period_s)
        removed = sum(change for at, change in memory.downs if at > now_s - policy.period_s)
        start = current - added + removed
        if policy.kind == "Pods":
            proposed.append(start + sign * policy.value)
        else:
            changed = start * (1 + sign * policy.value / 100)
            proposed.append(_ceil(changed) if sign > 0 else int(changed))
    widest = (max if sign > 0 else min) if rules.select == "Max" else (min if sign > 0 else max)
    return widest(proposed)


def step(now_s: float, current: int, wanted: int | None, minimum: int, maximum: int, memory: Memory, up: Rules = UP_DEFAULT, down: Rules = DOWN_DEFAULT) -> int:
    """One turn of the controller: stabilise, limit, remember the change; the replicas from now on. Nothing is changed without a metric."""
    if current == 0 or (wanted is None and minimum <= current <= maximum):
        return current
    if current > maximum or current < minimum:
        new = min(maximum, max(minimum, current))
    else:
        assert wanted is not None
        new, _ = limited(now_s, current, stabilized(now_s, current, wanted, memory, up, down), minimum, maximum, memory, up, down)
    keep_s = max((policy.period_s for policy in (*up.policies, *down.policies)), default=0)
    memory.ups = [(at, change) for at, change in memory.ups if at > now_s - keep_s] + ([(now_s, new - current)] if new > current else [])
    memory.downs = [(at, change) for at, change in memory.downs if at > now_s - keep_s] + ([(now_s, current - new)] if new < current else [])
    return new
