"""Peeking after every pair does not make false claims, and large effects are seen early."""

from __future__ import annotations

from math import inf, log

import numpy as np
import pytest
from scipy import integrate
from scipy import stats as oracle

from perfloop.stats.sequential import EFFECT_SCALE, Looks, hodges_lehmann, sign_e_value, t_mixture_sequence, t_threshold

CAMPAIGNS, PAIRS = 2000, 40


def noise(kind: str) -> np.ndarray:
    random = np.random.default_rng(20240115)
    draws = random.standard_normal((CAMPAIGNS, PAIRS)) if kind == "normal" else random.standard_t(3, (CAMPAIGNS, PAIRS))
    return 0.2 * draws


@pytest.mark.parametrize("kind", ["normal", "t3"])
def test_false_claims_of_the_t_mixture_when_looking_after_every_pair(kind):
    data = noise(kind)
    n = np.arange(1, PAIRS + 1)
    mean = np.cumsum(data, axis=1) / n
    square = np.cumsum(data**2, axis=1) / n - mean**2
    with np.errstate(divide="ignore", invalid="ignore"):
        t = mean / np.sqrt(square * n / (n - 1)) * np.sqrt(n)
    bounds = np.array([t_threshold(int(k)) for k in n])
    assert (np.abs(t[:, 2:]) > bounds[2:]).any(axis=1).mean() <= 0.05
    # the vectorised rule is the function's own
    for row in (0, 1, 2):
        for k in (3, 10, 40):
            _, low, high = t_mixture_sequence(list(data[row, :k]))
            assert (low > 0 or high < 0) == bool(abs(t[row, k - 1]) > bounds[k - 1])


@pytest.mark.parametrize("kind", ["normal", "t3"])
def test_false_claims_of_the_sign_test_when_looking_after_every_pair(kind):
    signs = noise(kind)
    tables: dict[tuple[int, int], float] = {}
    claims = 0
    for row in (signs > 0).cumsum(axis=1):
        for k in range(3, PAIRS + 1):
            key = (k, int(row[k - 1]))
            if key not in tables:
                tables[key] = sign_e_value([1.0] * key[1] + [-1.0] * (k - key[1]))
            if tables[key] >= 20:
                claims += 1
                break
    assert claims / CAMPAIGNS <= 0.05


def test_four_pairs_are_enough_for_a_large_effect():
    """Ratio 0.2 with a deviation of 0.2 of the logs, as a fixed bottleneck gives: nearly always excluded after 4 pairs."""
    random = np.random.default_rng(5)
    data = log(0.2) + 0.2 * random.standard_normal((500, 4))
    excluded = [t_mixture_sequence(list(row))[2] < 0 for row in data]
    assert np.mean(excluded) > 0.97


def test_the_threshold_is_where_the_bayes_factor_reaches_one_over_alpha():
    """Against numerical integration of the noncentral t over effects of N(0, scale²): the mixture's own definition."""
    for n in (4, 8):
        t = t_threshold(n, 0.95)
        above = integrate.quad(lambda d, t=t, n=n: oracle.nct.pdf(t, n - 1, d * n**0.5) * oracle.norm.pdf(d, 0, EFFECT_SCALE), -30, 30, limit=400)[0]
        assert above / oracle.t.pdf(t, n - 1) == pytest.approx(20, rel=1e-3)


def test_too_few_pairs_are_unknown():
    assert t_mixture_sequence([-1.6])[1:] == (-inf, inf)
    assert t_mixture_sequence([-1.6, -1.6])[1:] == (-inf, inf)


def test_equal_pairs_are_not_certainty():
    """Quantiles of histograms move in steps of 2 %: three pairs of one step each are rounding, not proof."""
    _, low, high = t_mixture_sequence([-0.0193] * 3)
    assert low < 0 < high


def test_more_confidence_is_wider():
    values = [-1.5, -1.7, -1.4, -1.8]
    narrow, wide = t_mixture_sequence(values, 0.9), t_mixture_sequence(values, 0.99)
    assert wide[1] < narrow[1] < narrow[0] < narrow[2] < wide[2]


def test_sign_evidence():
    assert sign_e_value([-1.0] * 7) >= 20
    assert sign_e_value([-1.0] * 6) < 20
    assert sign_e_value([1, -1, 1, -1]) < 1
    assert sign_e_value([0.0, 0.0]) == pytest.approx(1)
    # it is a fair bet: over all equally likely outcomes its mean is 1
    outcomes = [[1 if i >> b & 1 else -1 for b in range(6)] for i in range(64)]
    assert np.mean([sign_e_value(o) for o in outcomes]) == pytest.approx(1)


@pytest.mark.parametrize("values", [[], [float("nan")], [float("inf")]])
def test_nonsense_is_refused(values):
    for function in (t_mixture_sequence, sign_e_value):
        with pytest.raises(ValueError, match="at least one value"):
            function(values)


def bursts(rng: np.random.Generator, shape: tuple[int, int], sd: float) -> np.ndarray:
    """A tenth of the pairs has five times the noise; ``sd`` is that of all together."""
    return sd / np.sqrt(0.9 + 2.5) * np.where(rng.random(shape) < 0.1, 5, 1) * rng.standard_normal(shape)


NOISES = {
    "normal": lambda rng, shape: 0.03 * rng.standard_normal(shape),
    "t3": lambda rng, shape: 0.03 / np.sqrt(3) * rng.standard_t(3, shape),
    "bursts": lambda rng, shape: bursts(rng, shape, 0.03),
}


@pytest.mark.parametrize("kind", NOISES)
def test_a_long_proof_that_looks_after_every_pair_seldom_claims_and_finds_small_effects(kind):
    data = NOISES[kind](np.random.default_rng(11), (400, 60))
    looks = Looks(60)

    def decided_at(row: np.ndarray) -> int | None:
        values = [float(v) for v in row]
        return next((n for n in range(3, 61) if looks.evidence(values[:n]) >= 20), None)

    false = [decided_at(row) for row in data]
    assert sum(n is not None for n in false) / len(false) <= 0.05
    five = [decided_at(row - 0.05) for row in data[:200]]
    assert None not in five
    assert np.mean([n or 60 for n in five]) <= 9


@pytest.mark.parametrize("kind", NOISES)
def test_the_interval_of_a_long_proof_covers_at_all_looks_together(kind):
    data = NOISES[kind](np.random.default_rng(12), (250, 40)) + 0.02
    looks = Looks(40)
    missed = 0
    for row in data:
        intervals = [looks.interval([float(v) for v in row[:n]]) for n in (3, 5, 8, 12, 20, 40)]
        missed += any(not low <= 0.02 <= high for _, low, high in intervals)
    assert missed / len(data) <= 0.05


@pytest.mark.parametrize("pairs_max", [4, 60])
def test_the_interval_is_what_the_evidence_does_not_reject(pairs_max):
    random = np.random.default_rng(13)
    looks = Looks(pairs_max)
    for n in (6, 9, 25):
        values = [float(v) for v in -0.05 + 0.03 * random.standard_t(3, n)]
        _, low, high = looks.interval(values)
        for inside, outside in ((low + 1e-9, low - 1e-9), (high - 1e-9, high + 1e-9)):
            assert looks.evidence(values, inside) <= 20 + 1e-3
            assert looks.evidence(values, outside) >= 20 - 1e-3


def test_signs_cost_nothing_where_the_cap_is_too_low_for_them_to_decide():
    values = [-1.5, -1.7, -1.4, -1.8]
    assert Looks(4).interval(values) == t_mixture_sequence(values)
    assert Looks(7).bound(4) < Looks(8).bound(4)


def test_rounding_that_makes_all_pairs_alike_is_not_certainty():
    for value in (0.0, -0.0193):
        _, low, high = Looks(60).interval([value] * 12)
        assert low < value < high


def test_the_estimate_of_a_long_proof_is_the_median_of_pair_means():
    values = [0.3, -1.0, 2.0, 0.1, 40.0]
    walsh = [(a + b) / 2 for i, a in enumerate(values) for b in values[i:]]
    assert hodges_lehmann(values) == np.median(walsh)
    assert hodges_lehmann([1.0]) == 1.0


@pytest.mark.parametrize("confidence", [0, 1, 1.2])
def test_a_confidence_outside_zero_to_one_is_refused(confidence):
    with pytest.raises(ValueError, match="outside 0 to 1"):
        Looks(4, confidence)
