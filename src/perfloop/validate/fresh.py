"""Does an improvement show again on fresh rounds? Whoever stops when it looks good, or takes the best of several, sees more than there is."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isfinite, log

from perfloop.model.base import Estimate
from perfloop.model.verdict import Verdict, VerdictStatus
from perfloop.stats.intervals import t_interval
from perfloop.validate.before_after import filled
from perfloop.validate.levels import level
from perfloop.validate.question import Question
from perfloop.validate.validity import Pair, usable

#: of the practical floor: an effect just at it must not fail by half the time
SHARE_OF_FLOOR = 0.5


def confirmed(verdict: Verdict, fresh: Sequence[Pair], question: Question) -> Verdict:
    """The verdict with the ratio of the fresh pairs; no longer an improvement where they alone do not show one of at least half the floor."""
    found = usable(fresh, question.step, question.metric)
    if found.broken:
        return filled(verdict, status=VerdictStatus.REGRESSED, reason=f"on fresh rounds: {found.broken}")
    levels = [(level([a], question.step, question.metric), level([b], question.step, question.metric)) for a, b in found.pairs]
    logs = [log(b / a) for a, b in levels if a and b]
    if found.invalid or not logs or len(logs) < len(found.pairs):
        why = found.invalid or f"{question.spoken} was not measured in every round"
        return filled(verdict, status=VerdictStatus.INCONCLUSIVE, reason=f"an improvement, but fresh rounds could not confirm it: {why}")
    mean, low, high = t_interval(logs, question.confidence) if len(logs) > 1 else (logs[0], -1e9, 1e9)
    ends = (exp(low), exp(high)) if isfinite(low) and abs(low) < 50 and abs(high) < 50 else (None, None)
    ratio = Estimate(value=exp(mean), low=ends[0], high=ends[1], n=len(logs), confidence=question.confidence, source="fresh pairs of rounds")
    if exp(mean) <= 1 - SHARE_OF_FLOOR * question.effect_min:
        return filled(verdict, fresh_ratio=ratio)
    told = f"an improvement that did not show again: × {exp(mean):.2f} on {len(logs)} fresh pair{'s' * (len(logs) > 1)}"
    return filled(verdict, status=VerdictStatus.INCONCLUSIVE, fresh_ratio=ratio, reason=told)
