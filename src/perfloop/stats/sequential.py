"""Tests that may be looked at after every pair of rounds without spending the error rate: anytime-valid intervals and evidence.

Two kinds of evidence, each an e-process (under "no difference" it exceeds 1/α with probability α at most, ever): a mixture over t
statistics, strong where noise is about normal, and a mixture over signs, exact for any noise that is as likely to go up as down.
Their average is again an e-process, so that one need not know the noise beforehand.

Sources: T. L. Lai, "On confidence sequences", Ann. Statist. 4 (1976); H. Wang and A. Ramdas, "Anytime-valid t-tests and
confidence sequences for Gaussian means with unknown variance" (2023); for the sign test the beta-binomial mixture of
H. Robbins, "Statistical methods related to the law of the iterated logarithm", Ann. Math. Statist. 41 (1970); averages of
e-values: V. Vovk and R. Wang, "E-values: calibration, combination and applications", Ann. Statist. 49 (2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, inf, isfinite, lgamma, log, sqrt
from statistics import median

from perfloop.stats.student import mean_sd

#: Prior standard deviation of the standardised effect (mean of the log ratios over their standard deviation). The width after n
#: pairs is smallest where the scale matches the effect that is sought. A fix of a real bottleneck is many standard deviations
#: (ratio 0.2 with a deviation of 0.2: 8), and proofs have 3 to 8 pairs, so the scale is large: 3 pairs exclude zero from
#: |t| = 10.7 on and 4 pairs from 6.6, where scale 1 cannot decide before the fifth pair. The price at 20 pairs is a bound of 3.9
#: instead of 3.4: small effects take a few pairs more.
EFFECT_SCALE = 4.0

#: The same where the cap on pairs allows small effects to be found, and the signs help with those.
EFFECT_SCALE_LONG = 2.0

#: From this cap on signs can decide at half weight (8 pairs of one sign give evidence of 50); below it they would only cost.
SIGNS_FROM_PAIRS = 8

#: Least standard deviation of a log ratio that is believed. Both levels are read from buckets of 1.95 % width, which alone gives
#: a ratio of two of them a deviation of 0.0195/√6: pairs that agree better than that agree by rounding, not by evidence.
RESOLUTION = 0.008


@dataclass(frozen=True)
class Looks:
    """How evidence is weighed after each pair. Fixed before the first round by the cap on pairs alone: for short proofs the t mixture, which
    finds large effects in 3 to 5 pairs; from a cap of 8 on the average of it and the sign mixture, which also finds small ones in noise with bursts.
    """

    pairs_max: int
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence {self.confidence} is outside 0 to 1")

    @property
    def signs(self) -> bool:
        """True where the signs are weighed too."""
        return self.pairs_max >= SIGNS_FROM_PAIRS

    def interval(self, log_ratios: Sequence[float]) -> tuple[float, float, float]:
        """``(centre, low, high)`` of a confidence sequence for the centre of the log ratios, valid after every pair at once.

        Coverage: the probability that *any* of the intervals, over all numbers of pairs, misses the true centre is at most 1 − confidence, for
        normal noise; with the signs, simulated also for t noise with 3 degrees of freedom and for bursts (tests, ``make bench-proof``). The
        estimate is the mean in short proofs and the Hodges–Lehmann median of pair means in long ones. ``ValueError`` for no or non-finite values.
        """
        values = _finite(log_ratios)
        if not self.signs:
            return t_mixture_sequence(values, self.confidence)
        low, high = self._hull(values)
        return min(max(hodges_lehmann(values), low), high), low, high

    def evidence(self, log_ratios: Sequence[float], centre: float = 0.0) -> float:
        """The e-value against this centre so far; from 1/(1 − confidence) on, it is outside the interval."""
        values = [value - centre for value in _finite(log_ratios)]
        n = len(values)
        mean, sd = mean_sd(tuple(values))
        t = mean / max(sd, RESOLUTION) * sqrt(n)
        if not self.signs:
            return _t_mixture(t, n, EFFECT_SCALE)
        return (_t_mixture(t, n, EFFECT_SCALE_LONG) + sign_e_value(values)) / 2

    def bound(self, pairs: int) -> float:
        """How large |t| must be after so many pairs for the t half alone to exclude zero; infinite where no t is enough yet."""
        if not self.signs:
            return t_threshold(pairs, self.confidence)
        return t_threshold(pairs, 1 - (1 - self.confidence) / 2, EFFECT_SCALE_LONG)

    def _hull(self, values: Sequence[float]) -> tuple[float, float]:
        """The span of all centres that are not rejected: between two neighbouring values the evidence of the signs is constant, so the rest is a bound on t."""
        n = len(values)
        mean, sd = mean_sd(tuple(values))
        error = max(sd, RESOLUTION) / sqrt(n)
        places = sorted(set(values))
        above = {place: sum(value > place for value in values) for place in places}
        pieces = [(-inf, places[0], n, n), *((left, right, above[left], n) for left, right in pairwise([*places, inf]))]
        pieces += [(place, place, above[place], n - values.count(place)) for place in places]  # values equal to the centre say nothing of it
        if places[-1] - places[0] < RESOLUTION:  # rounding has made them alike: their signs against any centre between are no evidence
            pieces = [(-inf, inf, 0, 0)]
        low, high = inf, -inf
        for left, right, up, counted in pieces:
            rest = 2 / (1 - self.confidence) - _sign_mixture(up, counted)
            reach = t_threshold(n, 1 - 1 / rest, EFFECT_SCALE_LONG) * error if rest > 1 else 0.0
            start, end = max(left, mean - reach), min(right, mean + reach)
            if rest > 0 and start <= end:
                low, high = min(low, start), max(high, end)
        return (low, high) if low <= high else (mean, mean)


def hodges_lehmann(values: Sequence[float]) -> float:
    """The median of the means of all pairs of values (each with itself too): an estimate of the centre that a few wild values do not move."""
    numbers = _finite(values)
    return median((a + b) / 2 for index, a in enumerate(numbers) for b in numbers[index:])


def t_mixture_sequence(log_ratios: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """``(mean, low, high)``: a confidence sequence for the mean of the log ratios, valid after every pair at once.

    Coverage: for normal noise of unknown variance, the probability that *any* of the intervals, over all n, misses the true
    mean is at most 1 − confidence; so one may stop when zero is excluded. In simulation false claims when looking after each
    of 3 to 40 pairs stay below 5 % for normal noise and for t noise with 3 degrees of freedom (see the tests). One pair, and
    few pairs where the mixture cannot decide yet, give an infinite interval. ``ValueError`` for no or non-finite values.

    How: the Bayes factor of the t statistic for effects δ ~ N(0, g), g = ``EFFECT_SCALE``²,
    r^(−1/2) · ((ν + t²)/(ν + t²/r))^(n/2) with r = 1 + n·g and ν = n − 1, is a martingale under the null; by Ville's inequality it
    exceeds 1/α with probability α at most, ever. The interval is all means that it does not reject.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is outside 0 to 1")
    values = _finite(log_ratios)
    n = len(values)
    mean, sd = mean_sd(values)
    threshold = t_threshold(n, confidence)
    if threshold == inf:
        return mean, -inf, inf
    half = threshold * max(sd, RESOLUTION) / sqrt(n)
    return mean, mean - half, mean + half


def t_threshold(n: int, confidence: float = 0.95, scale: float = EFFECT_SCALE) -> float:
    """How large |t| must be after ``n`` pairs for the sequence to exclude zero; infinite where no t is enough yet."""
    r = 1 + n * scale**2
    alpha = 1 - confidence
    bound = (r / alpha**2) ** (1 / n)
    if n < 2 or bound >= r:
        return inf
    return sqrt((n - 1) * (bound - 1) / (1 - bound / r))


def sign_e_value(log_ratios: Sequence[float]) -> float:
    """Evidence against "a pair is as likely to go up as down": at 20 or more, reject at 5 %, whenever one looks.

    An e-process for any noise with median zero, however heavy its tails: the beta-binomial mixture with Beta(½, ½),
    2^n · B(k + ½, n − k + ½)/B(½, ½) for k of n pairs above zero. Pairs of exactly zero say nothing and are left out. With all
    signs alike 7 pairs reach 20.
    """
    values = [v for v in _finite(log_ratios) if v != 0]
    n, up = len(values), sum(v > 0 for v in values)
    return _sign_mixture(up, n)


def _t_mixture(t: float, n: int, scale: float) -> float:
    """The Bayes factor of ``t_mixture_sequence``; 1 for one pair, which says nothing of its own noise."""
    r, nu = 1 + n * scale**2, n - 1
    return 1.0 if n < 2 else exp(n / 2 * log((nu + t * t) / (nu + t * t / r)) - log(r) / 2)


def _sign_mixture(up: int, n: int) -> float:
    return exp(n * log(2) + _log_beta(up + 0.5, n - up + 0.5) - _log_beta(0.5, 0.5))


def _finite(values: Sequence[float]) -> tuple[float, ...]:
    if not values or not all(isfinite(v) for v in values):
        raise ValueError("a sequence needs at least one value, and finite ones")
    return tuple(float(v) for v in values)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
