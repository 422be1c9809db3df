"""Where a service ends, from bursts that are small beside its load: the last answer of b requests that came at once is there after about c + b/X seconds.

At low load a request costs more than at the end: the core has slept, caches are cold, an event loop wakes for one request instead of for ten. Within a burst the
service works as it does at its end, for some milliseconds, so that the slope of that line is what it can do, whatever ends it: cores, a lock, a pool. What it
cannot see is a debt that is paid later (work after the answer, a CPU quota over 100 ms); there the utilisation law is the one to believe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import median
from typing import TYPE_CHECKING

from perfloop.model.base import Estimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POINTS_MIN = 12
#: of the time of the largest bursts that must grow with their size; else they did not fill the service
GROWN_MIN = 0.3
#: by which the slope of the larger bursts may differ from that of all
BENT_MAX = 1.4
SPREAD_MAX = 1.5
#: factor within which bursts and the utilisation law speak of the same end
AGREE_MAX = 1.35
CONFIDENCE = 0.9
RESAMPLES = 200

Burst = tuple[int, float]  # requests that came at once, seconds until the last one was answered


@dataclass(frozen=True)
class Drain:
    """How fast bursts are worked off; ``rate`` None with the reason in ``note`` where they do not tell."""

    rate: Estimate | None
    note: str = ""


def sizes(largest: int) -> tuple[int, ...]:
    """Up to eight sizes of bursts from a third of the largest one."""
    least = max(2, largest // 3)
    step = max(1, (largest - least) // 7)
    return tuple(range(largest, least - 1, -step))[::-1]


def drain(bursts: Sequence[Burst]) -> Drain:
    """Requests a second by the median slope of all pairs of bursts (Theil and Sen: a few disturbed bursts do not move it), with an interval by resampling."""
    import numpy as np

    if len(bursts) < POINTS_MIN or len({size for size, _ in bursts}) < 3:
        return Drain(None, f"{len(bursts)} bursts are too few to say how fast they are worked off")
    size, took_s = np.array([burst[0] for burst in bursts], dtype=float), np.array([burst[1] for burst in bursts])
    each_s, largest = _slope(size, took_s), size.max()
    if each_s <= 0 or each_s * largest < GROWN_MIN * median(took_s[size == largest]):
        return Drain(None, f"bursts of {largest:.0f} requests did not fill the service")
    upper = size >= median(sorted(set(size)))
    if len(set(size[upper])) >= 3 and not 1 / BENT_MAX <= _slope(size[upper], took_s[upper]) / each_s <= BENT_MAX:
        return Drain(None, f"the time of a burst does not grow evenly with its size (up to {largest:.0f} requests)")
    dice = np.random.default_rng(1)
    drawn = sorted(_slope(size[chosen], took_s[chosen]) for chosen in dice.integers(0, len(bursts), (RESAMPLES, len(bursts))))
    edge = int((1 - CONFIDENCE) / 2 * RESAMPLES)
    low_s, high_s = drawn[edge], drawn[-1 - edge]
    if low_s <= 0 or high_s > SPREAD_MAX * low_s:
        return Drain(None, "the bursts scatter too much to say how fast they are worked off")
    source = f"bursts of up to {largest:.0f} requests at once"
    return Drain(Estimate(value=1 / each_s, low=1 / high_s, high=1 / low_s, n=len(bursts), unit="1/s", confidence=CONFIDENCE, source=source))


def end(by_law: Estimate | None, worked_off: Estimate | None) -> tuple[Estimate | None, str]:
    """Where it ends, by what is known, and what is to be said where the two disagree: then the lower one is the one to plan with."""
    if by_law is None or worked_off is None:
        return by_law or worked_off, ""
    ratio = worked_off.value / by_law.value
    if 1 / AGREE_MAX <= ratio <= AGREE_MAX:
        return _together(by_law, worked_off), ""
    if ratio < 1:
        return worked_off, f"bursts are worked off at {worked_off.value:.0f} requests/s: something that is not seen ends it before"
    return by_law, f"bursts are worked off faster ({worked_off.value:.0f} requests/s) than it can go on: work is put off"


def _together(one: Estimate, other: Estimate) -> Estimate:
    """Two independent looks at the same end as one, each by what it knows: the mean of their logarithms, weighted by 1 / width²."""
    looks = [(log(look.value), log(look.high / look.low)) for look in (one, other) if look.low and look.high and look.high > look.low]
    if len(looks) < 2:
        return other if other.low else one
    weights = [1 / width**2 for _, width in looks]
    middle = sum(weight * value for weight, (value, _) in zip(weights, looks, strict=True)) / sum(weights)
    half = 0.5 / sqrt(sum(weights))
    return Estimate(
        value=exp(middle),
        low=exp(middle - half),
        high=exp(middle + half),
        n=one.n + other.n,
        unit="1/s",
        confidence=CONFIDENCE,
        source="utilisation law and bursts",
    )


def _slope(size: NDArray[np.float64], took_s: NDArray[np.float64]) -> float:
    """Seconds that one more request adds; pairs count by their distance in size, for those far apart say more."""
    import numpy as np

    one, other = np.triu_indices(len(size), 1)
    apart = size[other] - size[one]
    one, other, apart = one[apart != 0], other[apart != 0], apart[apart != 0]
    if not len(apart):
        return 0.0
    slopes = (took_s[other] - took_s[one]) / apart
    order = np.argsort(slopes)
    seen = np.cumsum(np.abs(apart)[order])
    return float(slopes[order][np.searchsorted(seen, seen[-1] / 2)])
