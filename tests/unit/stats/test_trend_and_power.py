"""Intervals that hold the truth as often as they say, also for series whose neighbours resemble each other."""

from __future__ import annotations

import random

import pytest

from perfloop.stats.power import power_fit
from perfloop.stats.trend import trend


def series(rng: random.Random, slope: float, follow: float, n: int = 24) -> list[float]:
    noise, found = 0.0, []
    for i in range(n):
        noise = follow * noise + rng.gauss(0, 1)
        found.append(10 + slope * i + noise)
    return found


@pytest.mark.parametrize(("follow", "least"), [(0.0, 0.92), (0.4, 0.88), (0.7, 0.80)])
def test_a_trend_holds_the_true_slope(follow, least):
    rng = random.Random(11)
    found = [trend(range(24), series(rng, 0.1, follow)) for _ in range(300)]
    assert sum(t.low <= 0.1 <= t.high for t in found) / 300 >= least


def test_a_trend_of_too_little():
    with pytest.raises(ValueError, match="three or more"):
        trend([1, 2], [1, 2])
    with pytest.raises(ValueError, match="different"):
        trend([1, 1, 1], [1, 2, 3])
    assert trend([1, 2, 3, 4], [2, 4, 6, 8]).slope == pytest.approx(2)


def test_an_exponent_holds_the_truth():
    rng = random.Random(13)
    sizes = [s for s in (1, 2, 4, 8, 16) for _ in range(3)]
    held = 0
    for _ in range(100):
        fit = power_fit(sizes, [(1 + 2 * s**1.5) * rng.gauss(1, 0.03) for s in sizes])
        held += fit.low <= 1.5 <= fit.high
    assert held >= 90


def test_what_is_no_exponent():
    with pytest.raises(ValueError, match="three sizes"):
        power_fit([1, 1, 2, 2], [1, 1, 2, 2])
    with pytest.raises(ValueError, match="above 0"):
        power_fit([1, 2, 3, 4], [1, 2, 0, 4])
    assert power_fit([1, 2, 4, 8, 16], [5, 5.01, 4.99, 5, 5.005]).flat
    exact = power_fit([1, 2, 4, 8, 16], [3.0 * s**2 for s in (1, 2, 4, 8, 16)])
    assert exact.low <= 2 <= exact.high
    assert exact.at(10) == pytest.approx(300, rel=0.02)
