"""Intervals for a fixed number of values, against SciPy."""

from __future__ import annotations

from math import exp, inf, log

import pytest
from scipy import stats as oracle

from perfloop.stats.intervals import geometric_t_interval, loglog_slope, slope_interval, t_interval
from perfloop.stats.student import t_cdf, t_quantile

VALUES = (1.2, 0.9, 1.7, 1.1, 1.4)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 30, 1000])
@pytest.mark.parametrize("probability", [0.001, 0.025, 0.3, 0.5, 0.9, 0.975, 0.995, 0.9999])
def test_t_quantiles(degrees, probability):
    assert t_quantile(probability, degrees) == pytest.approx(oracle.t.ppf(probability, degrees), rel=1e-8, abs=1e-12)
    assert t_cdf(t_quantile(probability, degrees), degrees) == pytest.approx(probability, rel=1e-9)


def test_interval_of_a_mean():
    mean, low, high = t_interval(VALUES, 0.95)
    assert (low, high) == pytest.approx(oracle.t.interval(0.95, 4, loc=mean, scale=oracle.sem(VALUES)))
    assert mean == pytest.approx(sum(VALUES) / 5)


def test_interval_of_a_geometric_mean():
    _, low, high = geometric_t_interval(VALUES, 0.9)
    mean, low_log, high_log = t_interval([log(v) for v in VALUES], 0.9)
    assert (low, high) == pytest.approx((exp(low_log), exp(high_log)))
    assert low < exp(mean) < high


def test_slope():
    x, y = (1, 2, 3, 5, 8), (2.1, 3.9, 6.2, 9.7, 16.5)
    slope, low, high = slope_interval(x, y, 0.95)
    fit = oracle.linregress(x, y)
    half = oracle.t.ppf(0.975, 3) * fit.stderr
    assert (slope, low, high) == pytest.approx((fit.slope, fit.slope - half, fit.slope + half))


def test_exponent_of_a_power_law():
    slope, low, high = loglog_slope((1, 10, 100, 1000), (3, 300, 30_000, 3_000_000), 0.95)
    assert (slope, low, high) == pytest.approx((2, 2, 2))


def test_too_little_is_unknown_not_certain():
    assert t_interval([3.0]) == (3.0, -inf, inf)
    assert slope_interval((1, 2), (1, 2))[1:] == (-inf, inf)


@pytest.mark.parametrize(
    "call",
    [
        lambda: t_interval([]),
        lambda: t_interval([1, float("nan")]),
        lambda: t_interval([1, 2], 1.0),
        lambda: geometric_t_interval([1, 0]),
        lambda: slope_interval((1, 1), (1, 2)),
        lambda: slope_interval((1, 2), (1,)),
        lambda: loglog_slope((0, 1), (1, 1)),
    ],
)
def test_nonsense_is_refused(call):
    with pytest.raises(ValueError):  # noqa: PT011
        call()
