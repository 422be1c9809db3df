"""Student's t distribution: its probability and its quantile, without SciPy (which is the oracle in the tests)."""

from __future__ import annotations

from functools import lru_cache
from math import exp, inf, lgamma, log, log1p, sqrt

_TERMS_MAX, _PRECISION = 500, 1e-15


def t_cdf(t: float, degrees: float) -> float:
    """P(T ≤ t) with ``degrees`` of freedom (> 0)."""
    if degrees <= 0:
        raise ValueError(f"{degrees} degrees of freedom are not more than 0")
    tail = 0.5 * _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t))
    return tail if t < 0 else 1 - tail


@lru_cache(maxsize=1024)
def t_quantile(probability: float, degrees: float) -> float:
    """The t with P(T ≤ t) = ``probability`` (strictly between 0 and 1), by bisection to 1e-12 relative."""
    if not 0 < probability < 1:
        raise ValueError(f"probability {probability} is outside 0 to 1")
    if probability == 0.5:
        return 0.0
    if probability < 0.5:
        return -t_quantile(1 - probability, degrees)
    low, high = 0.0, 1.0
    while t_cdf(high, degrees) < probability:
        low, high = high, high * 2
        if high > 1e12:
            return inf
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if t_cdf(middle, degrees) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Numerical Recipes, 6.4)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1 - front * _fraction(b, a, 1 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    result = d
    for m in range(1, _TERMS_MAX):
        for numerator in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            d = 1 + numerator * d
            d = 1 / (d if abs(d) > tiny else tiny)
            c = 1 + numerator / c
            c = c if abs(c) > tiny else tiny
            result *= d * c
        if abs(d * c - 1) < _PRECISION:
            break
    return result


def mean_sd(values: tuple[float, ...]) -> tuple[float, float]:
    """The mean and the sample standard deviation (n − 1); the deviation of one value is 0."""
    n = len(values)
    mean = sum(values) / n
    return mean, sqrt(sum((v - mean) ** 2 for v in values) / (n - 1)) if n > 1 else 0.0
