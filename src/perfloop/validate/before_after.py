"""Two stored runs: what changed between them. A stored baseline raises a suspicion; only toggling proves a cause.

Measured on machines of a public cloud, the same test with the same nominal error of 5 % raised 4 % false alarms when rounds were
interleaved, 8 % back to back, and 24 % against a baseline a week old; so the floor is higher here, and every verdict says how it was reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isfinite, log, sqrt
from typing import Any

from perfloop.model.base import Estimate
from perfloop.model.run import StepSummary, Summary, Window
from perfloop.model.verdict import Guard, Proof, Verdict, VerdictStatus
from perfloop.stats.student import t_quantile
from perfloop.validate.levels import Metric, level_estimate

EFFECT_MIN = 0.10
RATE_TOLERANCE = 0.05
ERROR_SHARE_MARGIN = 0.005
SUSPICION = "before and after only: what else changed in between is not known"


def compare_summaries(a: Summary, b: Summary, *, effect_min: float = EFFECT_MIN, confidence: float = 0.95) -> Verdict:
    """Run B against run A by the p95 of all requests, with Welch's t on the logs of the windows' levels; each step's p95 and the errors are guards."""
    verdict = Verdict(
        status=VerdictStatus.INVALID,
        metric="p95_s of all requests",
        proof=Proof.BEFORE_AFTER,
        pairs=min(a.windows, b.windows),
        round_s=max(a.window_s, b.window_s),
        before=a.total.p95_s,
        after=b.total.p95_s,
        guards=_guards(a, b, effect_min, confidence),
    )
    if not (a.generator_ok and b.generator_ok):
        return filled(verdict, reason="the generator was the bottleneck in one of the runs")
    if abs(a.rate_per_s - b.rate_per_s) > RATE_TOLERANCE * max(a.rate_per_s, b.rate_per_s):
        return filled(verdict, reason=f"the runs had different loads: {a.rate_per_s:g} and {b.rate_per_s:g} requests/s")
    if {step.name for step in a.steps} != {step.name for step in b.steps}:
        return filled(verdict, reason="the runs sent different requests")
    if a.total.p95_s is None or b.total.p95_s is None:
        return filled(verdict, reason="one of the runs has no successful request")
    ratio = _welch(a.total.p95_s, b.total.p95_s, confidence)
    if ratio is None:
        return filled(verdict, status=VerdictStatus.INCONCLUSIVE, reason="a run of one window has no interval; at least two windows each are needed")
    assert ratio.low is not None
    assert ratio.high is not None
    difference = Estimate(value=b.total.p95_s.value - a.total.p95_s.value, n=ratio.n, unit="s", confidence=confidence, source="before and after")
    status, reason = _judge(ratio.value, ratio.low, ratio.high, effect_min)
    reason = f"{reason}; {SUSPICION}" if reason else SUSPICION
    return filled(verdict, status=status, ratio=ratio, difference=difference, detectable_ratio=sqrt(ratio.low / ratio.high), reason=reason)


def ratio_of(a: Sequence[Window], b: Sequence[Window], metric: Metric, confidence: float = 0.95) -> Estimate | None:
    """The ratio B/A of a metric of all requests, with Welch's interval on the logs of the windows' levels; None where it was not measured in both."""
    before, after = (level_estimate(windows, None, metric, confidence, "before and after") for windows in (a, b))
    return _welch(before, after, confidence) if before and after else None


def filled(verdict: Verdict, **changes: Any) -> Verdict:
    """The verdict with some fields filled in."""
    changed: Verdict = verdict.with_(**changes)
    return changed


def _judge(value: float, low: float, high: float, effect_min: float) -> tuple[VerdictStatus, str]:
    if high < 1 and value <= 1 - effect_min:
        return VerdictStatus.IMPROVED, ""
    if low > 1 and value >= 1 + effect_min:
        return VerdictStatus.REGRESSED, ""
    if low >= 1 - effect_min and high <= 1 + effect_min:
        return VerdictStatus.EQUIVALENT, f"no difference of {effect_min:.0%} or more"
    return VerdictStatus.INCONCLUSIVE, f"the windows' own spread allows × {low:.2f} to × {high:.2f}"


def _welch(a: Estimate, b: Estimate, confidence: float) -> Estimate | None:
    """The ratio b/a from two levels whose intervals are Student's t on logs; None where either has none."""
    parts = [_log_error(a), _log_error(b)]
    if parts[0] is None or parts[1] is None or a.value <= 0 or b.value <= 0:
        return None
    (error_a, df_a), (error_b, df_b) = parts[0], parts[1]
    variance = error_a**2 + error_b**2
    low = high = mean = log(b.value / a.value)
    if variance > 0:
        df = max(1.0, variance**2 / (error_a**4 / df_a + error_b**4 / df_b))
        half = t_quantile(0.5 + confidence / 2, int(df)) * sqrt(variance)  # rounded down: the wider interval
        low, high = mean - half, mean + half
    return Estimate(value=exp(mean), low=exp(low), high=exp(high), n=min(a.n, b.n), confidence=confidence, source="before and after")


def _log_error(level: Estimate) -> tuple[float, int] | None:
    """(standard error of the log, degrees of freedom), back from the interval."""
    if level.n < 2 or level.low is None or level.high is None or level.low <= 0 or not isfinite(level.high):
        return None
    half = max(log(level.high / level.value), log(level.value / level.low))
    return half / t_quantile(0.5 + level.confidence / 2, level.n - 1), level.n - 1


def _guards(a: Summary, b: Summary, effect_min: float, confidence: float) -> tuple[Guard, ...]:
    found: list[Guard] = []
    share_a, share_b = _error_share(a.total), _error_share(b.total)
    found.append(
        Guard(
            metric="error rate",
            ok=share_b - share_a <= ERROR_SHARE_MARGIN,
            before=share_a,
            after=share_b,
            bound=f"rises by at most {ERROR_SHARE_MARGIN:.1%} of requests",
        )
    )
    others = {step.name: step for step in b.steps}
    for step in a.steps:
        other = others.get(step.name)
        if other is None or step.p95_s is None or other.p95_s is None:
            continue
        ratio = _welch(step.p95_s, other.p95_s, confidence)
        harm = ratio is not None and ratio.low is not None and ratio.low > 1 and ratio.value > 1 + effect_min
        bound = f"not shown to be worse by more than {effect_min:.0%}"
        found.append(Guard(metric=f"p95 of {step.name}", ok=not harm, before=step.p95_s.value, after=other.p95_s.value, ratio=ratio, bound=bound))
    return tuple(found)


def _error_share(step: StepSummary) -> float:
    return sum(step.errors.values()) / step.sent if step.sent else 0.0
