"""The common moment of a change, and how far each series moved."""

from __future__ import annotations

import numpy as np
import pytest

from perfloop.stats.onset import common_onset, filled, ranked, shifts


def noise(rows: int, columns: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(10, 1, (rows, columns))


def test_one_moment_is_found_among_series_that_do_not_change():
    values = noise(300, 12)
    values[180:, 3] += 30
    values[180:, 7] -= 8
    assert abs(common_onset(values) - 180) <= 1


def test_a_wild_value_is_no_change():
    values = noise(300, 3)
    values[100, 0] = 1e9
    values[200:, 1] += 20
    assert abs(common_onset(values) - 200) <= 1
    assert shifts(values, 200).size[0] < 2


def test_moves_are_told_in_spreads_of_the_values_before():
    values = noise(400, 2)
    values[200:, 1] += 12
    moved = shifts(values, 200)
    assert moved.size[1] == pytest.approx(12, rel=0.25)
    assert moved.sign[1] == 1
    assert moved.size[0] < 1


def test_a_drift_that_was_there_before_is_no_move():
    values = np.column_stack([np.linspace(100, 140, 400), np.r_[np.full(200, 100.0), np.full(200, 140.0)]])
    moved = shifts(values, 200)
    assert moved.size[0] < 3 < moved.size[1]


def test_a_level_that_was_constant_moves_by_its_share():
    values = np.column_stack([np.r_[np.full(50, 100.0), np.full(50, 101.0)], np.r_[np.zeros(50), np.ones(50)], np.zeros(100)])
    assert shifts(values, 50).size == pytest.approx([0.5, 50, 0])


def test_gaps_are_filled_from_before_and_at_the_start_from_after():
    gap = np.nan
    assert filled(np.array([[gap, gap], [2, gap], [gap, gap], [np.inf, gap]])).tolist() == [[2, 0], [2, 0], [2, 0], [2, 0]]


def test_ties_share_their_rank():
    assert ranked(np.array([[1.0], [1.0], [5.0]]))[0, 0] == ranked(np.array([[1.0], [1.0], [5.0]]))[1, 0]


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="20 rows"):
        common_onset(noise(19, 2))
