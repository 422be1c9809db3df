"""How cost grows with size: y = a + b·x^k, with an interval of the exponent k. A constant part (a) is what makes a plain slope on logs too small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfloop.stats.student import t_quantile

K_MIN, K_MAX, K_STEP = 0.05, 4.0, 0.01


@dataclass(frozen=True)
class PowerFit:
    """``exponent`` with its interval, constant part and factor; ``flat`` where a constant explains the points as well (then the exponent says nothing)."""

    exponent: float
    low: float
    high: float
    constant: float
    factor: float
    flat: bool

    def at(self, x: float) -> float:
        """The fitted cost at a size."""
        return self.constant if self.flat else self.constant + self.factor * float(x**self.exponent)


def power_fit(x: Sequence[float], y: Sequence[float], confidence: float = 0.95) -> PowerFit:
    """Least squares on relative errors over a grid of exponents, a and b not below 0; the interval holds the exponents that fit not much worse (profile likelihood).

    ``ValueError`` for fewer than four points, fewer than three sizes, or values that are not above 0.
    """
    if len(x) != len(y) or len(x) < 4 or len(set(x)) < 3:
        raise ValueError("an exponent needs four points of three sizes or more")
    if any(not v > 0 for v in (*x, *y)):
        raise ValueError("sizes and costs must be above 0")
    biggest = max(x)
    scaled = [v / biggest for v in x]
    exponents = [K_MIN + i * K_STEP for i in range(round((K_MAX - K_MIN) / K_STEP) + 1)]
    fits = [(_two(scaled, y, k), k) for k in exponents]
    (best, a, b), k = min(fits, key=lambda fit: fit[0][0])
    degrees = len(x) - 3
    t = t_quantile(0.5 + confidence / 2, degrees)
    # relative errors below a thousandth are beyond what a clock shows, and would make the interval of exact data empty
    allowed = max(best, len(x) * 1e-6) * (1 + t * t / degrees)
    inside = [kk for (sse, _, _), kk in fits if sse <= allowed]
    level = sum(1 / v for v in y) / sum(1 / v**2 for v in y)
    constant = sum((level / v - 1) ** 2 for v in y)
    return PowerFit(k, min(inside), max(inside), level if constant <= allowed else a, b / biggest**k, constant <= allowed)


def _two(x: Sequence[float], y: Sequence[float], k: float) -> tuple[float, float, float]:
    """(sum of squares, a, b) of the best a, b ≥ 0 for this exponent."""
    powers = [v**k for v in x]
    s11 = sum(1 / v**2 for v in y)
    s12 = sum(p / v**2 for p, v in zip(powers, y, strict=True))
    s22 = sum((p / v) ** 2 for p, v in zip(powers, y, strict=True))
    r1, r2 = sum(1 / v for v in y), sum(p / v for p, v in zip(powers, y, strict=True))
    determinant = s11 * s22 - s12 * s12
    choices = [(r1 / s11, 0.0), (0.0, r2 / s22)]
    if determinant > 1e-12 * s11 * s22:
        a, b = (r1 * s22 - r2 * s12) / determinant, (s11 * r2 - s12 * r1) / determinant
        if a >= 0 and b >= 0:
            choices = [(a, b)]
    return min((sum(((a + b * p) / v - 1) ** 2 for p, v in zip(powers, y, strict=True)), a, b) for a, b in choices)
