"""For any values: an interval contains its own estimate, moves and scales with the data, and sequences are wider than fixed n."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perfloop.stats.intervals import geometric_t_interval, t_interval
from perfloop.stats.sequential import sign_e_value, t_mixture_sequence

VALUES = st.lists(st.floats(-5, 5), min_size=1, max_size=40)


@given(VALUES)
def test_an_interval_contains_its_mean_and_the_sequence_is_wider(values):
    mean, low, high = t_interval(values)
    assert low <= mean <= high
    same, outer_low, outer_high = t_mixture_sequence(values)
    assert same == mean
    assert outer_low <= low + 1e-12
    assert high <= outer_high + 1e-12


@given(VALUES)
def test_turning_the_comparison_round_turns_the_answer(values):
    mean, low, high = t_mixture_sequence(values)
    other = t_mixture_sequence([-v for v in values])
    assert other == (-mean, -high, -low)
    assert abs(sign_e_value(values) - sign_e_value([-v for v in values])) <= 1e-9 * sign_e_value(values)


@given(st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=20), st.floats(0.01, 100))
def test_a_geometric_interval_scales(values, factor):
    whole, scaled = geometric_t_interval(values), geometric_t_interval([factor * v for v in values])
    for a, b in zip(whole, scaled, strict=True):
        assert b == 0 or b > 1e300 or abs(b - factor * a) <= 1e-6 * abs(b)
