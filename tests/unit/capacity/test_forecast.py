"""Forecasts: the season comes back, a trend only where there is one, and nothing out of nothing."""

from __future__ import annotations

from math import exp, pi, sin
from random import Random

import pytest

from perfloop.capacity.forecast import DAY_S, HOUR_S, WEEK_S, forecast, grow, reached_s


def hours(days: int, growth_per_day: float = 0.0, noise: float = 0.03, seed: int = 1) -> list[tuple[float, float]]:
    dice = Random(seed)
    return [(h * HOUR_S, 100 * (1 + 0.5 * sin(2 * pi * h / 24)) * exp(growth_per_day * h / 24 + dice.gauss(0, noise))) for h in range(24 * days)]


def test_the_day_comes_back_and_the_interval_holds_what_came() -> None:
    inside = []
    for seed in range(30):
        history = hours(8, seed=seed)
        found = forecast(history[: 7 * 24], DAY_S)
        assert found.season_s == DAY_S
        inside += [point.low_per_s <= rate <= point.high_per_s for point, (_, rate) in zip(found.points, history[7 * 24 :], strict=True)]
    assert 0.85 <= sum(inside) / len(inside) <= 0.95


def test_a_trend_is_found_over_weeks_and_not_found_where_there_is_none() -> None:
    grown = forecast(hours(35, 0.02), 2 * WEEK_S)
    assert grown.season_s == WEEK_S
    assert grown.growth_per_month is not None
    assert grown.growth_per_month.value == pytest.approx(exp(0.02 * 30.4) - 1, rel=0.1)
    assert grown.points[-1].middle_per_s > grown.points[0].middle_per_s
    flat = forecast(hours(35, 0.0), 2 * WEEK_S)
    assert flat.points[-1].middle_per_s == pytest.approx(flat.points[WEEK_FROM_END].middle_per_s)
    assert "no trend" in flat.note


WEEK_FROM_END = -1 - 7 * 24


def test_little_history_says_so() -> None:
    assert "too little history" in forecast(hours(3), DAY_S).note
    assert "at least 3" in forecast([(0.0, 5.0)], DAY_S).note
    assert not forecast([], DAY_S).points


def test_given_growth_reaches_its_factor_at_the_end_and_has_no_interval() -> None:
    found = grow(50, 10, 12)
    assert found.points[-1].middle_per_s == pytest.approx(500)
    assert found.points[-1].low_per_s == found.points[-1].high_per_s
    early, middle, late = reached_s(found, 158.1)  # ten to the half: half of the time
    assert early == middle == late
    assert middle == pytest.approx(6 * 30.4 * DAY_S, rel=0.01)
    assert reached_s(found, 501) == (None, None, None)


def test_gaps_are_filled_from_the_day_before() -> None:
    history = [point for point in hours(6) if not 100 <= point[0] / HOUR_S < 110]
    assert len(forecast(history, DAY_S).points) == 24
