"""One query's times with and without a change, in pairs of rounds: the ratio of the rounds' medians with Student's interval on their logs."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt
from statistics import fmean, median, stdev

from perfloop.model.base import Estimate
from perfloop.model.verdict import Proof, Verdict, VerdictStatus
from perfloop.stats.student import t_quantile

METRIC = "execution time of the query"


def compare_times(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]], *, proof: Proof, effect_min: float, confidence: float, round_s: float = 0.0
) -> Verdict:
    """B (with the change) against A by pairs of (times without, times with) in ms. With ``before/after`` there is one pair, and its single executions are the units."""
    units = [(median(off), median(on)) for off, on in pairs if off and on]
    logs = [log(on / off) for off, on in units if off > 0 and on > 0]
    if proof is Proof.BEFORE_AFTER and len(pairs) == 1:
        return _before_after(pairs[0], effect_min, confidence)
    if len(logs) < 2:
        return Verdict(status=VerdictStatus.INVALID, metric=METRIC, proof=proof, pairs=len(logs), round_s=round_s, reason="fewer than two pairs were measured")
    mean = fmean(logs)
    half = t_quantile(0.5 + confidence / 2, len(logs) - 1) * stdev(logs) / sqrt(len(logs))
    return _verdict(units, mean, half, len(logs), proof, effect_min, confidence, round_s)


def _before_after(pair: tuple[Sequence[float], Sequence[float]], effect_min: float, confidence: float) -> Verdict:
    off, on = ([log(time) for time in times if time > 0] for times in pair)
    if len(off) < 3 or len(on) < 3:
        return Verdict(
            status=VerdictStatus.INVALID, metric=METRIC, proof=Proof.BEFORE_AFTER, pairs=1, round_s=0.0, reason="fewer than three executions on a side"
        )
    error = sqrt(stdev(off) ** 2 / len(off) + stdev(on) ** 2 / len(on))
    half = t_quantile(0.5 + confidence / 2, min(len(off), len(on)) - 1) * error
    return _verdict([(exp(fmean(off)), exp(fmean(on)))], fmean(on) - fmean(off), half, min(len(off), len(on)), Proof.BEFORE_AFTER, effect_min, confidence, 0.0)


def _verdict(units: list[tuple[float, float]], mean: float, half: float, n: int, proof: Proof, effect_min: float, confidence: float, round_s: float) -> Verdict:
    low, high = exp(mean - half), exp(mean + half)
    if high < 1 and exp(mean) <= 1 - effect_min:
        status, reason = VerdictStatus.IMPROVED, ""
    elif low > 1 and exp(mean) >= 1 + effect_min:
        status, reason = VerdictStatus.REGRESSED, ""
    elif low >= 1 - effect_min and high <= 1 + effect_min:
        status, reason = VerdictStatus.EQUIVALENT, f"no difference of {effect_min:.0%} or more"
    else:
        status, reason = VerdictStatus.INCONCLUSIVE, f"the rounds' own spread allows × {low:.2f} to × {high:.2f}"
    before, after = (Estimate(value=median(side) / 1000, n=n, unit="s", source=proof.value) for side in zip(*units, strict=True))
    return Verdict(
        status=status,
        metric=METRIC,
        proof=proof,
        pairs=len(units),
        round_s=round_s,
        before=before,
        after=after,
        ratio=Estimate(value=exp(mean), low=low, high=high, n=n, confidence=confidence, source=proof.value),
        difference=Estimate(value=after.value - before.value, n=n, unit="s", confidence=confidence, source=proof.value),
        reason=reason,
        log_ratios=tuple(log(on / off) for off, on in units if off > 0 and on > 0),
    )
