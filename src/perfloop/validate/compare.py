"""Did it help: pairs of rounds without and with a change, judged by one metric named before the first round.

The unit is the pair of rounds, never the request: requests of one round share its luck. The statistic is log(B/A) of the metric; its
interval is a confidence sequence, which stays valid however often one looks, so the rounds may end as soon as it decides.

improved      the interval of the ratio lies below 1, and the estimate is beyond the practical floor (≤ 1 − effect_min)
regressed     the interval lies above 1, and the estimate is ≥ 1 + effect_min; or the requests failed with the change
equivalent    the whole interval lies within 1 ± effect_min
inconclusive  anything else, with the smallest effect that this could have found and the pairs that it would take
invalid       the rounds cannot be compared: late generator, errors, different rates, too few requests
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import exp, inf, isfinite, log, sqrt

from perfloop.model.base import Estimate
from perfloop.model.run import Window
from perfloop.model.verdict import Proof, Verdict, VerdictStatus
from perfloop.stats.intervals import t_interval
from perfloop.stats.sequential import RESOLUTION, t_mixture_sequence, t_threshold
from perfloop.stats.student import mean_sd
from perfloop.validate.before_after import compare_summaries, filled
from perfloop.validate.guards import guards, guards_ok
from perfloop.validate.levels import UNITS, Metric, level, level_estimate
from perfloop.validate.validity import PAIRS_MIN, Pair, usable

PAIRS_CONSIDERED_MAX = 1000
_DECIDED = (VerdictStatus.IMPROVED, VerdictStatus.REGRESSED, VerdictStatus.EQUIVALENT)


def compare(pairs: Sequence[Pair], *, step: str | None, metric: Metric, effect_min: float, confidence: float, proof: Proof) -> Verdict:
    """The verdict on these pairs (without, with) by ``metric`` of ``step`` (None: all requests together). ``effect_min`` is the practical floor, 0.05 for 5 %."""
    named = f"{metric} of {step or 'all requests'}"
    found = usable(pairs, step, metric)
    round_s = max((window.duration_s for pair in pairs for window in pair), default=0.0)
    verdict = Verdict(status=VerdictStatus.INVALID, metric=named, proof=proof, pairs=len(found.pairs), round_s=round_s, reason=found.invalid or found.broken)
    if found.invalid:
        return verdict
    if found.broken:
        return filled(verdict, status=VerdictStatus.REGRESSED, guards=guards(found.pairs, step, metric, confidence))
    levels = [(level([a], step, metric), level([b], step, metric)) for a, b in found.pairs]
    measured = [(a, b) for a, b in levels if a and b]
    if len(measured) < len(levels):
        return filled(verdict, reason=f"{named} was not measured in every round")
    logs = tuple(log(b / a) for a, b in measured)
    status, reason = _judge(logs, effect_min, confidence)
    mean, low, high = t_mixture_sequence(logs, confidence)
    return filled(
        verdict,
        status=status,
        reason="; ".join(text for text in (reason, found.note) if text),
        before=level_estimate([a for a, _ in found.pairs], step, metric, confidence, "rounds without the change"),
        after=level_estimate([b for _, b in found.pairs], step, metric, confidence, "rounds with the change"),
        ratio=Estimate(value=exp(mean), low=_exp(low), high=_exp(high), n=len(logs), confidence=confidence, source="pairs of rounds"),
        difference=_difference(measured, confidence, UNITS[metric]),
        detectable_ratio=_detectable(_deviation(logs), len(logs), confidence),
        guards=guards(found.pairs, step, metric, confidence),
        log_ratios=logs,
    )


def decided(pairs: Sequence[Pair], *, step: str | None, metric: Metric, effect_min: float, confidence: float) -> bool:
    """True where more pairs would not change the answer: looking after every pair is allowed, the interval is valid for that."""
    found = usable(pairs, step, metric)
    if found.broken:
        return True
    levels = [(level([a], step, metric), level([b], step, metric)) for a, b in found.pairs]
    logs = [log(b / a) for a, b in levels if a and b]
    if found.invalid or len(logs) < PAIRS_MIN or len(logs) < len(levels):
        return False
    return _judge(logs, effect_min, confidence)[0] in _DECIDED


def aa_detectable(windows: Sequence[Window], *, step: str | None = None, metric: Metric = "p95_s", pairs: int = 4, confidence: float = 0.95) -> float | None:
    """The smallest relative change (0.2 = 20 %) that so many pairs of rounds could prove here, from windows of the same load: each with its
    neighbour is a pair without a change. None with fewer than three windows."""
    levels = [one for window in windows if (one := level([window], step, metric))]
    if len(levels) < 3:
        return None
    steps = [log(b / a) for a, b in pairwise(levels)]
    ratio = _detectable(sqrt(sum(one * one for one in steps) / len(steps)), pairs, confidence)
    return None if ratio is None else 1 - ratio


def _judge(logs: Sequence[float], effect_min: float, confidence: float) -> tuple[VerdictStatus, str]:
    if len(logs) < PAIRS_MIN:
        return VerdictStatus.INCONCLUSIVE, f"{len(logs)} pairs; at least {PAIRS_MIN} are needed"
    mean, low, high = t_mixture_sequence(logs, confidence)
    if high < 0 and exp(mean) <= 1 - effect_min:
        return VerdictStatus.IMPROVED, ""
    if low > 0 and exp(mean) >= 1 + effect_min:
        return VerdictStatus.REGRESSED, ""
    if effect_min and low >= log(1 - effect_min) and high <= log(1 + effect_min):
        return VerdictStatus.EQUIVALENT, f"no difference of {effect_min:.0%} or more"
    if not low <= 0 <= high:
        return VerdictStatus.INCONCLUSIVE, f"there is a difference, but not shown to be {effect_min:.0%} or more"
    return VerdictStatus.INCONCLUSIVE, _would_take(_deviation(logs), len(logs), max(abs(mean), log(1 + effect_min)), confidence)


def _would_take(deviation: float, pairs: int, effect: float, confidence: float) -> str:
    """What is missing: the smallest change these pairs could prove, and the pairs that the observed one (at least the floor) would take."""
    ratio = _detectable(deviation, pairs, confidence)
    could = "" if ratio is None else f"{pairs} pairs could prove a change of {1 - ratio:.0%} here; "
    if not effect:
        return could + "no difference was seen"
    needed = next((n for n in range(pairs + 1, PAIRS_CONSIDERED_MAX) if t_threshold(n, confidence) * deviation / sqrt(n) < effect), None)
    if needed is None:
        return f"{could}more than {PAIRS_CONSIDERED_MAX} pairs would be needed for {1 - exp(-effect):.0%}"
    return f"{could}about {needed} pairs would be needed for {1 - exp(-effect):.0%}"


def _deviation(logs: Sequence[float]) -> float:
    return max(mean_sd(tuple(logs))[1], RESOLUTION) if len(logs) > 1 else inf


def _detectable(deviation: float, pairs: int, confidence: float) -> float | None:
    half = t_threshold(pairs, confidence) * deviation / sqrt(pairs) if pairs > 1 else inf
    return exp(-half) if isfinite(half) else None


def _difference(measured: Sequence[tuple[float, float]], confidence: float, unit: str) -> Estimate:
    mean, low, high = t_interval([b - a for a, b in measured], confidence)
    ends = (low, high) if isfinite(low) else (None, None)
    return Estimate(value=mean, low=ends[0], high=ends[1], n=len(measured), unit=unit, confidence=confidence, source="pairs of rounds")


def _exp(value: float) -> float | None:
    return exp(value) if isfinite(value) and abs(value) < 700 else None


__all__ = ["aa_detectable", "compare", "compare_summaries", "decided", "guards_ok"]
