"""The scalability law against published fits and exact data, and what it refuses to say."""

from __future__ import annotations

from math import exp
from random import Random

import pytest

from perfloop.capacity.usl import concurrency_for, fit, fit_points, law, throughput_at
from perfloop.model.base import Estimate
from perfloop.model.capacity import Capacity

# SPEC SDM91 and its fit by the R package usl (tests/*.Rout.save), unweighted nls
SDM91 = ((1, 64.9), (18, 995.9), (36, 1652.4), (72, 1853.2), (108, 1828.9), (144, 1775.0), (216, 1702.2))
# Gunther's ray tracer, first six points
RAYTRACER = ((1, 20.0), (4, 78.0), (8, 130.0), (12, 170.0), (16, 190.0), (20, 200.0))
EXACT = ((1, 1.0), (2, 1.8868), (4, 3.0769), (6, 3.5294), (8, 3.5398), (10, 3.3557))


def test_the_fit_of_sdm91_is_the_published_one() -> None:
    found = fit_points(SDM91, "absolute")
    assert found is not None
    assert found.parameters == pytest.approx((0.027728, 1.0437e-4, 89.995), rel=1e-4)
    assert found.errors == pytest.approx((0.009122, 1.988e-5, 14.21), rel=1e-3)
    residuals = [x - law(found.parameters, n) for n, x in SDM91]
    assert residuals == pytest.approx([-25.10, -81.66, 111.09, 3.05, -49.99, -46.60, 56.00], abs=0.01)


def test_the_fit_of_the_ray_tracer_is_the_published_one() -> None:
    found = fit_points(RAYTRACER, "absolute")
    assert found is not None
    assert found.parameters == pytest.approx((0.02444, 0.00163, 20.856), rel=5e-3)


def test_exact_points_give_back_the_parameters_with_a_narrow_interval() -> None:
    capacity = fit(EXACT)
    assert capacity.alpha
    assert capacity.beta
    assert capacity.gamma_per_s
    assert (capacity.alpha.value, capacity.beta.value, capacity.gamma_per_s.value) == pytest.approx((0.02, 0.02, 1.0), abs=1e-4)
    assert capacity.peak_concurrency == pytest.approx(7.0, abs=0.01)
    for estimate in (capacity.alpha, capacity.beta):
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low <= 0.02 + 1e-4
        assert estimate.high >= 0.02 - 1e-4
        assert estimate.high - estimate.low < 1e-3


def test_the_fit_on_logs_of_sdm91_has_its_peak_where_the_published_fit_has() -> None:
    capacity = fit(SDM91)
    assert capacity.peak_concurrency == pytest.approx(96.5, rel=0.15)


def test_points_that_only_rise_have_no_peak_and_no_prediction_far_out() -> None:
    noise = Random(3)
    capacity = fit([(n, law((0.05, 0.0, 100.0), n) * exp(noise.gauss(0, 0.02))) for n in (1, 2, 4, 8, 12, 16, 24)])
    assert capacity.alpha
    assert capacity.alpha.value == pytest.approx(0.05, abs=0.02)
    assert capacity.peak_concurrency is None
    assert "no peak" in capacity.note
    assert capacity.valid_up_to == 36
    assert throughput_at(capacity, 30) is not None
    assert throughput_at(capacity, 37) is None


@pytest.mark.parametrize("points", [(), ((1, 10.0), (2, 18.0), (4, 30.0)), ((4, 10.0),) * 20, ((10, 5.0), (11, 5.0), (12, 5.0), (13, 5.0), (14, 5.0))])
def test_too_few_or_too_close_points_are_refused_with_the_reason(points: tuple[tuple[float, float], ...]) -> None:
    capacity = fit(points)
    assert capacity.alpha is None
    assert capacity.peak_concurrency is None
    assert "needed" in capacity.note


def test_points_that_are_none_are_left_out() -> None:
    capacity = fit([*EXACT, (0, 3.0), (float("nan"), 1.0), (3, -1.0), (5, float("inf"))])
    assert len(capacity.points) == len(EXACT)


def test_the_interval_of_alpha_contains_the_truth_about_as_often_as_promised() -> None:
    hits, noise = 0, Random(11)
    for _ in range(400):
        capacity = fit([(n, law((0.03, 0.001, 50.0), n) * exp(noise.gauss(0, 0.03))) for n in (1, 2, 4, 8, 16, 24, 32, 48)])
        assert capacity.alpha
        hits += capacity.alpha.low is not None and capacity.alpha.high is not None and capacity.alpha.low <= 0.03 <= capacity.alpha.high
    assert 360 <= hits <= 396


def test_the_inverse_agrees_with_the_law_itself() -> None:
    """Cisco's data: other libraries' closed form answers 17.73 for this rate, at which the law gives 10,539."""

    def estimate(value: float) -> Estimate:
        return Estimate(value=value)

    cisco = Capacity(points=(), alpha=estimate(0.02671591), beta=estimate(7.690945e-4), gamma_per_s=estimate(995.6486), valid_up_to=48.0)
    found = concurrency_for(cisco, 12_201)
    assert found == pytest.approx(29.57, abs=0.01)
    assert throughput_at(cisco, found or 0) == pytest.approx(12_201)
    assert concurrency_for(cisco, 20_000) is None  # above the peak
