"""Changes of level are found where they are, and noise that remembers itself makes none."""

from __future__ import annotations

import numpy as np
import pytest

from perfloop.stats.changepoints import change_points


def remembering(rng: np.random.Generator, count: int, n: int, rho: float, sd: float) -> np.ndarray:
    news = rng.standard_normal((count, n))
    made = news.copy()
    for index in range(1, n):
        made[:, index] = rho * made[:, index - 1] + np.sqrt(1 - rho * rho) * news[:, index]
    return sd * made


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.5])
def test_noise_alone_seldom_makes_a_change(rho):
    series = np.exp(remembering(np.random.default_rng(21), 80, 100, rho, 0.05))
    assert sum(bool(change_points(list(row))) for row in series) <= 10  # 3 % are expected; more than 10 of 80 come once in 10^4


def test_heavy_tails_and_single_bad_runs_are_no_changes():
    random = np.random.default_rng(22)
    assert sum(bool(change_points(list(np.exp(0.03 * random.standard_t(3, 100))))) for _ in range(60)) <= 9
    calm = 1 + 0.01 * random.standard_normal(60)
    calm[30] = 3.0
    assert change_points(list(calm)) == ()


def test_a_step_is_found_at_its_place_with_its_size():
    random = np.random.default_rng(23)
    near = 0
    for row in remembering(random, 40, 100, 0.3, 0.02):
        row[60:] += np.log(1.05)
        found = change_points(list(np.exp(row)))
        near += any(point.low <= 60 <= point.high and point.high - point.low <= 25 and abs(point.ratio - 1.05) < 0.02 for point in found)
    assert near >= 34


def test_a_change_that_was_taken_back_is_two_changes():
    random = np.random.default_rng(24)
    both = 0
    for row in remembering(random, 30, 100, 0.3, 0.02):
        row[40:70] += 0.05
        found = change_points(list(np.exp(row)))
        both += any(p.low <= 40 <= p.high and p.ratio > 1 for p in found) and any(p.low <= 70 <= p.high and p.ratio < 1 for p in found)
    assert both >= 21


def test_large_steps_in_little_noise_are_exact():
    values = [10.0 + 0.01 * (i % 3) for i in range(20)] + [12.0 + 0.01 * (i % 3) for i in range(20)]
    (point,) = change_points(values)
    assert (point.low, point.index, point.high) == (20, 20, 20)
    assert point.ratio == pytest.approx(1.2, rel=0.01)
    assert point.p <= 0.025


def test_changes_below_the_floor_are_not_reported():
    values = [10.0 + 0.01 * (i % 3) for i in range(20)] + [10.1 + 0.01 * (i % 3) for i in range(20)]
    assert change_points(values)
    assert change_points(values, ratio_min=1.02) == ()


def test_short_and_constant_series_have_none():
    assert change_points([]) == ()
    assert change_points([1.0, 2.0] * 5) == ()
    assert change_points([5.0] * 50) == ()


def test_only_the_last_thousand_are_looked_at_and_indexes_count_from_the_first():
    values = [10.0 + 0.01 * (i % 3) for i in range(1040)] + [12.0 + 0.01 * (i % 3) for i in range(60)]
    assert [point.index for point in change_points(values)] == [1040]


def test_the_same_series_gives_the_same_answer():
    row = list(np.exp(remembering(np.random.default_rng(25), 1, 80, 0.2, 0.05)[0] + (np.arange(80) > 40) * 0.1))
    assert change_points(row) == change_points(row)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        change_points([1.0, 0.0])
