"""Did it help: pairs of rounds without and with a change, judged by one metric named before the first round.

The unit is the pair of rounds, never the request: requests of one round share its luck. The statistic is log(B/A) of the metric; its
interval is a confidence sequence, which stays valid however often one looks, so the rounds may end as soon as it decides.

improved      the interval of the ratio lies below 1, and the estimate is beyond the practical floor (≤ 1 − effect_min)
regressed     the interval lies above 1, and the estimate is ≥ 1 + effect_min; or the requests failed with the change
equivalent    the whole interval lies within 1 ± effect_min
inconclusive  anything else, with the smallest effect that this could have found and the pairs that it would take
invalid       the rounds cannot be compared: late generator, errors, different rates, too few requests, drift of the side without the change
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, inf, isfinite, log, sqrt

from perfloop.model.base import Estimate
from perfloop.model.run import Window
from perfloop.model.verdict import Proof, Verdict, VerdictStatus
from perfloop.stats.intervals import t_interval
from perfloop.stats.sequential import RESOLUTION
from perfloop.stats.student import mean_sd
from perfloop.validate.before_after import compare_summaries, filled
from perfloop.validate.guards import alarm, guards, guards_ok
from perfloop.validate.levels import level, level_estimate
from perfloop.validate.question import Question
from perfloop.validate.validity import PAIRS_MIN, Pair, drifted, usable

PAIRS_CONSIDERED_MAX = 1000
_DECIDED = (VerdictStatus.IMPROVED, VerdictStatus.REGRESSED, VerdictStatus.EQUIVALENT)


@dataclass(frozen=True)
class Reach:
    """What A/A rounds say can be found here: the deviation of a pair's log ratio, and the smallest relative change that so many pairs would prove."""

    deviation: float
    pairs: int
    effect: float
    n: int  # pairs without a change that this rests on


def compare(pairs: Sequence[Pair], question: Question, proof: Proof) -> Verdict:
    """The verdict on these pairs (without, with)."""
    found = usable(pairs, question.step, question.metric)
    round_s = max((window.duration_s for pair in pairs for window in pair), default=0.0)
    verdict = Verdict(
        status=VerdictStatus.INVALID, metric=question.named, proof=proof, pairs=len(found.pairs), round_s=round_s, reason=found.invalid or found.broken
    )
    if found.invalid:
        return verdict
    if found.broken:
        return filled(verdict, status=VerdictStatus.REGRESSED, guards=guards(found.pairs, question))
    measured = _levels(found.pairs, question)
    if len(measured) < len(found.pairs):
        return filled(verdict, reason=f"{question.named} was not measured in every round")
    if drift := drifted([a for a, _ in measured]):
        return filled(verdict, reason=f"the {question.spoken} drifted without the change, {drift}: start again when it is steady")
    logs = tuple(log(b / a) for a, b in measured)
    status, reason = _judge(logs, question)
    centre, low, high = question.looks.interval(logs)
    step, metric, confidence = question.step, question.metric, question.confidence
    return filled(
        verdict,
        status=status,
        reason="; ".join(text for text in (reason, found.note) if text),
        before=level_estimate([a for a, _ in found.pairs], step, metric, confidence, "rounds without the change"),
        after=level_estimate([b for _, b in found.pairs], step, metric, confidence, "rounds with the change"),
        ratio=Estimate(value=exp(centre), low=_exp(low), high=_exp(high), n=len(logs), confidence=confidence, source="pairs of rounds"),
        difference=_difference(measured, question),
        detectable_ratio=_detectable(_deviation(logs), len(logs), question),
        guards=guards(found.pairs, question),
        log_ratios=logs,
    )


def decided(pairs: Sequence[Pair], question: Question) -> bool:
    """True where more pairs would not change the answer: looking after every pair is allowed, the interval is valid for that."""
    found = usable(pairs, question.step, question.metric)
    if found.broken:
        return True
    measured = _levels(found.pairs, question)
    if found.invalid or len(measured) < PAIRS_MIN or len(measured) < len(found.pairs):
        return False
    if alarm(found.pairs, question):
        return True
    status = _judge([log(b / a) for a, b in measured], question)[0]
    if status == VerdictStatus.IMPROVED and question.non_inferiority:
        return all(guard.ok for guard in guards(found.pairs, question))
    return status in _DECIDED


def aa_reach(windows: Sequence[Window], question: Question, pairs: int | None = None) -> Reach | None:
    """What so many pairs of rounds (the cap where not said) could prove here, from windows of the same load without a change: each with its
    neighbour is an A/A pair. None with fewer than three windows."""
    levels = [one for window in windows if (one := level([window], question.step, question.metric))]
    if len(levels) < 3:
        return None
    steps = [log(b / a) for a, b in pairwise(levels)]
    deviation = max(sqrt(sum(one * one for one in steps) / len(steps)), RESOLUTION)
    wanted = question.pairs_max if pairs is None else pairs
    ratio = _detectable(deviation, wanted, question)
    return None if ratio is None else Reach(deviation, wanted, 1 - ratio, len(steps))


def pairs_needed(deviation: float, effect: float, question: Question, beyond: int = 1) -> int | None:
    """How many pairs (more than ``beyond``) it takes to prove a change of so much (a log ratio) where pairs deviate so much; None above 1,000."""
    return next((n for n in range(beyond + 1, PAIRS_CONSIDERED_MAX) if question.looks.bound(n) * deviation / sqrt(n) < effect), None)


def _levels(pairs: Sequence[Pair], question: Question) -> list[tuple[float, float]]:
    levels = [(level([a], question.step, question.metric), level([b], question.step, question.metric)) for a, b in pairs]
    return [(a, b) for a, b in levels if a and b]


def _judge(logs: Sequence[float], question: Question) -> tuple[VerdictStatus, str]:
    effect_min = question.effect_min
    if len(logs) < PAIRS_MIN:
        return VerdictStatus.INCONCLUSIVE, f"{len(logs)} pairs; at least {PAIRS_MIN} are needed"
    centre, low, high = question.looks.interval(logs)
    if high < 0 and exp(centre) <= 1 - effect_min:
        return VerdictStatus.IMPROVED, ""
    if low > 0 and exp(centre) >= 1 + effect_min:
        return VerdictStatus.REGRESSED, ""
    if 0 < effect_min < 1 and low >= log(1 - effect_min) and high <= log(1 + effect_min):
        return VerdictStatus.EQUIVALENT, f"no difference of {effect_min:.0%} or more"
    if not low <= 0 <= high:
        return VerdictStatus.INCONCLUSIVE, f"there is a difference, but not shown to be {effect_min:.0%} or more"
    return VerdictStatus.INCONCLUSIVE, _would_take(_deviation(logs), len(logs), max(abs(centre), log(1 + effect_min)), question)


def _would_take(deviation: float, pairs: int, effect: float, question: Question) -> str:
    """What is missing: the smallest change these pairs could prove, and the pairs that the observed one (at least the floor) would take."""
    ratio = _detectable(deviation, pairs, question)
    could = "" if ratio is None else f"{pairs} pairs could prove a change of {1 - ratio:.0%} here; "
    if not effect:
        return could + "no difference was seen"
    needed = pairs_needed(deviation, effect, question, pairs)
    if needed is None:
        return f"{could}more than {PAIRS_CONSIDERED_MAX} pairs would be needed for {1 - exp(-effect):.0%}"
    return f"{could}about {needed} pairs would be needed for {1 - exp(-effect):.0%}"


def _deviation(logs: Sequence[float]) -> float:
    return max(mean_sd(tuple(logs))[1], RESOLUTION) if len(logs) > 1 else inf


def _detectable(deviation: float, pairs: int, question: Question) -> float | None:
    half = question.looks.bound(pairs) * deviation / sqrt(pairs) if pairs > 1 else inf
    return exp(-half) if isfinite(half) else None


def _difference(measured: Sequence[tuple[float, float]], question: Question) -> Estimate:
    mean, low, high = t_interval([b - a for a, b in measured], question.confidence)
    ends = (low, high) if isfinite(low) else (None, None)
    return Estimate(value=mean, low=ends[0], high=ends[1], n=len(measured), unit=question.unit, confidence=question.confidence, source="pairs of rounds")


def _exp(value: float) -> float | None:
    return exp(value) if isfinite(value) and abs(value) < 700 else None


__all__ = ["Reach", "aa_reach", "compare", "compare_summaries", "decided", "guards_ok", "pairs_needed"]
