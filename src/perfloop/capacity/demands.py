"""What one request takes of each resource, by the utilisation law: used = idle + demand × rate, fitted over windows of different rates.

The idle part matters: what a service does without requests is no demand, and leaving it out understates what a request adds at low load.
Source: P. Denning and J. Buzen, "The Operational Analysis of Queueing Network Models" (ACM Computing Surveys 1978).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import median

from perfloop.model.base import Estimate
from perfloop.model.capacity import Demand, ResourceKind
from perfloop.stats.student import t_quantile

POINTS_MIN = 4
CONFIDENCE = 0.9
#: a demand whose interval spans more than this factor ends nothing: other things on the machine are what was seen
SCATTER_MAX = 2.5
#: rests for each request above which they came one by one
WAKES_OFTEN = 0.4


def demand(
    resource: str,
    kind: ResourceKind,
    unit: str,
    points: Sequence[tuple[float, float]],
    capacity: float | None,
    capacity_source: str = "",
    scales: bool = True,
    note: str = "",
    idle: float | None = None,
) -> Demand:
    """One resource from its (requests/s, used) of several windows; where it saturates follows with its interval, where the capacity is known.

    With ``idle`` measured without load, each window gives a demand of its own, and their median weighted by rate is robust against windows in which the
    machine was slow; without it the idle part is fitted, too.
    """
    base = Demand(resource=resource, kind=kind, unit=unit, capacity=capacity, capacity_source=capacity_source, points=tuple(points), scales=scales, note=note)
    rates = sorted({round(rate, 3) for rate, _ in points})
    if len(points) < POINTS_MIN or len(rates) < 3:
        return _single(base, points)
    if idle is not None:
        slope, low, high = _median(points, idle)
        mean_rate, mean_used = 0.0, idle
    else:
        slope, low, high, mean_rate, mean_used = _line(points)
    told: Demand = base.with_(
        demand=Estimate(value=slope, low=low, high=high, n=len(points), unit=f"{unit} s", confidence=CONFIDENCE, source="utilisation law"),
        idle=mean_used - slope * mean_rate,
    )
    if low <= 0:
        return told.with_(note=_joined(note, "what a request takes is not told from nothing"))  # type: ignore[no-any-return]
    if high > SCATTER_MAX * low:
        return told.with_(note=_joined(note, "what a request takes scatters too much to say where it ends"))  # type: ignore[no-any-return]
    if capacity is None:
        return told.with_(note=_joined(note, f"how much there is, is not known: {capacity_source}" if capacity_source else "how much there is, is not known"))  # type: ignore[no-any-return]

    def ends(each: float) -> float:
        return max(0.0, (capacity - mean_used + each * mean_rate) / each)

    saturates = Estimate(
        value=ends(slope), low=ends(high), high=ends(low), n=len(points), unit="1/s", confidence=CONFIDENCE, source=f"{resource}: utilisation law"
    )
    return told.with_(saturates_at_per_s=saturates)  # type: ignore[no-any-return]


def _single(base: Demand, points: Sequence[tuple[float, float]]) -> Demand:
    """Windows at about one rate: the demand through the origin, by the spread of the windows; used where the sampling costs too much to do it everywhere."""
    shares = [used / rate for rate, used in points if rate > 0]
    if not shares or sum(shares) <= 0:
        return base.with_(note=_joined(base.note, "nothing of it was seen in use"))  # type: ignore[no-any-return]
    mean = sum(shares) / len(shares)
    low = high = None
    if len(shares) > 1:
        spread = sqrt(sum((share - mean) ** 2 for share in shares) / (len(shares) - 1) / len(shares))
        half = t_quantile(0.5 + CONFIDENCE / 2, len(shares) - 1) * spread
        low, high = max(1e-12, mean - half), mean + half
    told = base.with_(
        demand=Estimate(value=mean, low=low, high=high, n=len(shares), unit=f"{base.unit} s", confidence=CONFIDENCE, source="share of the time in use")
    )
    if base.capacity is None:
        return told.with_(note=_joined(base.note, "how much there is, is not known"))  # type: ignore[no-any-return]
    saturates = Estimate(
        value=base.capacity / mean,
        low=base.capacity / high if high else None,
        high=base.capacity / low if low else None,
        n=len(shares),
        unit="1/s",
        confidence=CONFIDENCE,
        source=f"{base.resource}: share of the time in use",
    )
    return told.with_(saturates_at_per_s=saturates)  # type: ignore[no-any-return]


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float, float, float, float]:
    """Least squares weighted by 1/rate, for counts scatter with their size: slope, its interval, and the weighted means."""
    weights = [1 / max(rate, 1e-9) for rate, _ in points]
    whole = sum(weights)
    mean_rate = sum(w * rate for w, (rate, _) in zip(weights, points, strict=True)) / whole
    mean_used = sum(w * used for w, (_, used) in zip(weights, points, strict=True)) / whole
    spread = sum(w * (rate - mean_rate) ** 2 for w, (rate, _) in zip(weights, points, strict=True))
    slope = sum(w * (rate - mean_rate) * (used - mean_used) for w, (rate, used) in zip(weights, points, strict=True)) / spread
    residual = sum(w * (used - mean_used - slope * (rate - mean_rate)) ** 2 for w, (rate, used) in zip(weights, points, strict=True))
    half = t_quantile(0.5 + CONFIDENCE / 2, len(points) - 2) * sqrt(residual / (len(points) - 2) / spread)
    return slope, slope - half, slope + half, mean_rate, mean_used


def _median(points: Sequence[tuple[float, float]], idle: float) -> tuple[float, float, float]:
    """The demand that half of the requests' windows lie below, and its interval by the ranks of a sign test (Hollander & Wolfe, 3.6)."""
    each = sorted(((used - idle) / rate, rate) for rate, used in points if rate > 0)
    half, seen, middle = sum(rate for _, rate in each) / 2, 0.0, each[-1][0]
    for value, rate in each:
        seen += rate
        if seen >= half:
            middle = value
            break
    count = len(each)
    lowest = max(0, int((count - 1.645 * sqrt(count)) / 2) - (0 if count > 6 else 1))
    return middle, min(middle, each[lowest][0]), max(middle, each[count - 1 - lowest][0])


def without_wakes(points: Sequence[tuple[float, float]], wakes_per_s: Sequence[float], idle: float) -> list[tuple[float, float]]:
    """The windows without what waking up costs: beginning to work after a rest costs something each time, and at the end there is no rest.

    used = idle + wake · wakes/s + demand · rate, where windows of single requests and of bursts tell the two apart; each side by its median.
    """
    rows = sorted((wakes / rate, (used - idle) / rate) for (rate, used), wakes in zip(points, wakes_per_s, strict=True) if rate > 0)
    often = [row for row in rows if row[0] > WAKES_OFTEN]
    rarely = [row for row in rows if row[0] <= WAKES_OFTEN]
    if not often or not rarely:
        return list(points)
    (much, dear), (little, cheap) = (tuple(median(column) for column in zip(*group, strict=True)) for group in (often, rarely))
    wake = max(0.0, (dear - cheap) / (much - little))
    return [(rate, used - wake * wakes) for (rate, used), wakes in zip(points, wakes_per_s, strict=True)]


def in_order(demands: Sequence[Demand]) -> tuple[Demand, ...]:
    """First what saturates first; those about which it is not known come last."""
    return tuple(sorted(demands, key=lambda item: item.saturates_at_per_s.value if item.saturates_at_per_s else float("inf")))


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
