"""Confidence intervals for a fixed number of values: of a mean, of a ratio, of a slope. Student's t; two-sided."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf, isfinite, log, sqrt

from perfloop.stats.student import mean_sd, t_quantile


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """``(mean, low, high)`` of independent values with about normal noise; one value has no finite interval.

    ``ValueError`` for no values, a value that is not finite, or a confidence outside 0 to 1. Valid for one look at a number
    of values fixed beforehand; for looking after each value use ``perfloop.stats.sequential``.
    """
    numbers = _checked(values, confidence)
    mean, sd = mean_sd(numbers)
    if len(numbers) == 1:
        return mean, -inf, inf
    half = t_quantile(0.5 + confidence / 2, len(numbers) - 1) * sd / sqrt(len(numbers))
    return mean, mean - half, mean + half


def geometric_t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """``(geometric mean, low, high)`` of positive values, from the t interval of their logs; for latencies and ratios."""
    if any(not v > 0 for v in values):
        raise ValueError("a geometric mean needs values above 0")
    mean, low, high = t_interval([log(v) for v in values], confidence)
    return exp(mean), exp(low), exp(high)


def slope_interval(x: Sequence[float], y: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """``(slope, low, high)`` of y over x by ordinary least squares; with two points the interval is infinite.

    ``ValueError`` for fewer than two points, columns of different length, or all x the same.
    """
    xs, ys = _checked(x, confidence), _checked(y, confidence)
    if len(xs) != len(ys) or len(xs) < 2:
        raise ValueError(f"a slope needs two or more points, not {len(xs)} x and {len(ys)} y")
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((a - mean_x) ** 2 for a in xs)
    if spread == 0:
        raise ValueError("a slope needs at least two different x")
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(xs, ys, strict=True)) / spread
    degrees = len(xs) - 2
    if degrees == 0:
        return slope, -inf, inf
    residual = sum((b - mean_y - slope * (a - mean_x)) ** 2 for a, b in zip(xs, ys, strict=True))
    half = t_quantile(0.5 + confidence / 2, degrees) * sqrt(residual / degrees / spread)
    return slope, slope - half, slope + half


def loglog_slope(x: Sequence[float], y: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """``(exponent, low, high)`` of y ∝ x^exponent, by least squares on logs: 1 is linear cost, 2 quadratic. Needs positive values."""
    if any(not v > 0 for v in (*x, *y)):
        raise ValueError("an exponent needs values above 0")
    return slope_interval([log(v) for v in x], [log(v) for v in y], confidence)


def _checked(values: Sequence[float], confidence: float) -> tuple[float, ...]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is outside 0 to 1")
    if not values:
        raise ValueError("an interval needs at least one value")
    if not all(isfinite(v) for v in values):
        raise ValueError("an interval needs finite values")
    return tuple(float(v) for v in values)
