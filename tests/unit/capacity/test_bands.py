"""Bands of the law: they hold a further measurement as often as they say, and nothing is said where nothing is known."""

from __future__ import annotations

from math import exp
from random import Random

from perfloop.capacity.bands import bands, refit, scatter
from perfloop.capacity.usl import fit_points, law

LEVELS = (1, 2, 4, 8, 16, 24, 32)
TRUTH = (0.03, 0.0008, 120.0)


def sweep(dice: Random, rounds: int, shared: float, own: float) -> tuple[list[tuple[float, float]], list[int]]:
    points, names = [], []
    for number in range(rounds):
        mood = dice.gauss(0, shared)
        for level in LEVELS:
            points.append((float(level), law(TRUTH, level) * exp(mood + dice.gauss(0, own))))
            names.append(number)
    return points, names


def test_a_band_holds_a_further_measurement_about_as_often_as_it_says() -> None:
    dice, hits, asked = Random(2), 0, 0
    for seed in range(60):
        points, names = sweep(dice, 4, 0.02, 0.03)
        at = (3.0, 12.0, 28.0, 44.0)
        for n, band in zip(at, bands(points, names, at, draws=300, seed=seed), strict=True):
            further = law(TRUTH, n) * exp(dice.gauss(0, 0.02) + dice.gauss(0, 0.03))
            assert band is not None
            assert band.low is not None
            assert band.high is not None
            hits, asked = hits + (band.low <= further <= band.high), asked + 1
    assert 0.84 <= hits / asked <= 0.97


def test_nothing_is_said_beyond_the_reach_of_the_data_nor_for_too_few_points() -> None:
    points, names = sweep(Random(1), 3, 0.0, 0.01)
    inside, outside, none = bands(points, names, (48.0, 49.0, 0.0))
    assert inside is not None
    assert outside is None
    assert none is None
    assert bands(points[:3], None, (2.0,)) == (None,)


def test_a_band_so_wide_that_it_says_nothing_is_not_given() -> None:
    points, names = sweep(Random(1), 3, 0.6, 0.6)
    assert bands(points, names, (40.0,)) == (None,)


def test_a_law_that_does_not_fit_gives_a_wider_band() -> None:
    """A hard knee: the same scatter between rounds, but the law misses the levels."""
    dice = Random(4)
    knee = [(float(n), min(n * 10.0, 80.0) * exp(dice.gauss(0, 0.005))) for _ in range(4) for n in LEVELS]
    names = [number for number in range(4) for _ in LEVELS]
    (wide,) = bands(knee, names, (10.0,))
    assert wide is not None
    assert wide.low is not None
    assert wide.low <= 80 <= (wide.high or 0)


def test_fitting_many_sets_at_once_finds_what_fitting_one_finds() -> None:
    import numpy as np

    points, _ = sweep(Random(9), 3, 0.02, 0.02)
    n, x = (np.asarray(column) for column in zip(*points, strict=True))
    one = fit_points(points, "log")
    assert one is not None
    (many,) = refit(np.array([0.1, 0.0, 4.0]), n, np.log(x)[None, :])
    assert np.allclose([many[0], many[1], exp(many[2])], one.parameters, rtol=1e-5, atol=1e-9)


def test_the_scatter_of_rounds_is_told_from_the_rest() -> None:
    import numpy as np

    dice = Random(6)
    rounds = np.repeat(np.arange(30), 7)
    levels = np.tile(np.arange(7), 30)
    values = np.array([mood + dice.gauss(0, 0.01) for mood in (dice.gauss(0, 0.05) for _ in range(30)) for _ in range(7)])
    found = scatter(values, rounds, levels, 207)
    assert found.rounds[0] / found.rounds[1] > 20 * found.rest[0] / found.rest[1]
