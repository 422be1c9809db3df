"""Does it grow? A slope over time with an interval that allows for neighbours that resemble each other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

from perfloop.stats.student import t_quantile


@dataclass(frozen=True)
class Trend:
    """``slope`` per unit of x with its interval; ``start`` and ``end`` are the line's values at the first and last x; ``n_effective`` independent points."""

    slope: float
    low: float
    high: float
    start: float
    end: float
    n_effective: float

    @property
    def grows(self) -> bool:
        """True where the whole interval is above 0."""
        return self.low > 0


def trend(x: Sequence[float], y: Sequence[float], confidence: float = 0.95) -> Trend:
    """The least-squares line of y over x. Residuals of a time series follow each other; their lag-1 correlation r makes n points worth n (1 − r)/(1 + r).

    ``ValueError`` for fewer than three points or all x the same. Fewer than three effective points have an infinite interval.
    """
    n = len(x)
    if n != len(y) or n < 3:
        raise ValueError(f"a trend needs three or more points, not {n} x and {len(y)} y")
    mean_x, mean_y = sum(x) / n, sum(y) / n
    spread = sum((a - mean_x) ** 2 for a in x)
    if spread <= 0:
        raise ValueError("a trend needs different x")
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    residuals = [b - mean_y - slope * (a - mean_x) for a, b in zip(x, y, strict=True)]
    square = sum(r * r for r in residuals)
    start, end = mean_y + slope * (min(x) - mean_x), mean_y + slope * (max(x) - mean_x)
    if square <= 1e-18 * max(1.0, mean_y * mean_y) * n:  # exactly on the line
        return Trend(slope, slope, slope, start, end, float(n))
    follow = sum(a * b for a, b in itertools.pairwise(residuals)) / square
    # the estimate of r is too low by about (1 + 4r)/n (Marriott and Pope 1954)
    follow = min(0.95, max(0.0, follow + (1 + 4 * follow) / n))
    effective = n * (1 - follow) / (1 + follow)
    if effective <= 2.5:
        return Trend(slope, -inf, inf, start, end, effective)
    half = t_quantile(0.5 + confidence / 2, effective - 2) * sqrt(square / (effective - 2) / spread)
    return Trend(slope, slope - half, slope + half, start, end, effective)
