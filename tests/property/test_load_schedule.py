"""For any workload: the schedule has the right count and spacing, and the same seed gives the same one."""

from __future__ import annotations

from itertools import islice, pairwise
from math import sqrt

from hypothesis import given, settings
from hypothesis import strategies as st

from perfloop.load.engines.schedule import arrival_times, step_choices

RATES = st.floats(0.5, 2000)
DURATIONS = st.floats(0.5, 5)
SEEDS = st.integers(0, 2**31)


@given(st.integers(1, 2000), st.integers(1, 5))
def test_constant_arrivals_are_as_many_as_asked_and_evenly_spaced(rate, duration):
    times = list(arrival_times(rate, duration, "constant", 1))
    assert len(times) == rate * duration
    assert times[0] == 0
    assert all(abs((b - a) - 1 / rate) < 1e-9 for a, b in pairwise(times))


@given(RATES, DURATIONS, st.sampled_from(["constant", "poisson"]), SEEDS)
def test_arrivals_ascend_inside_the_window_and_repeat_with_the_seed(rate, duration, arrival, seed):
    times = list(arrival_times(rate, duration, arrival, seed))
    assert all(0 <= t < duration for t in times)
    assert all(a <= b for a, b in pairwise(times))
    assert times == list(arrival_times(rate, duration, arrival, seed))


@settings(max_examples=30)
@given(st.floats(200, 2000), SEEDS)
def test_poisson_arrivals_have_the_count_and_the_gaps_of_a_poisson_process(rate, seed):
    times = list(arrival_times(rate, 5, "poisson", seed))
    expected = rate * 5
    assert abs(len(times) - expected) < 6 * sqrt(expected)
    gaps = [b - a for a, b in pairwise(times)]
    longer = sum(gap > 1 / rate for gap in gaps) / len(gaps)
    assert abs(longer - 0.3679) < 6 * sqrt(0.3679 * 0.6321 / len(gaps))  # e^-1 of exponential gaps exceed their mean


@settings(max_examples=30)
@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=6), SEEDS)
def test_steps_come_by_weight_and_repeat_with_the_seed(weights, seed):
    chosen = list(islice(step_choices(weights, seed), 3000))
    assert chosen == list(islice(step_choices(weights, seed), 3000))
    for step, weight in enumerate(weights):
        share = weight / sum(weights)
        assert abs(chosen.count(step) / 3000 - share) <= 6 * sqrt(share * (1 - share) / 3000) + 1e-12
