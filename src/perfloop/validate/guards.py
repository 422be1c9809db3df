"""What must not get worse while the named metric gets better: errors, memory, all requests' p95 and p99, CPU, other steps, sizes of answers.

A guard fails on evidence of harm: worse by more than its margin, with an interval over the pairs that excludes "no worse" (its
confidence shared among all guards by Bonferroni); and without such an interval where every pair was worse, by half or more on
average. That is judged once, when the rounds have ended; ``alarm`` may be asked after every pair.

Where non-inferiority is asked for (production), a guard must also be shown to be within its margin: the upper end of its interval lies
below it. All must hold at once, so no correction for their number is due (an intersection–union test).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isfinite, log, sqrt

from perfloop.model.base import Estimate
from perfloop.model.run import Window
from perfloop.model.verdict import Guard, Verdict
from perfloop.stats.intervals import t_interval
from perfloop.stats.sequential import Looks
from perfloop.validate.levels import level, samples, sent_and_failed
from perfloop.validate.question import Question

Pair = tuple[Window, Window]

LATENCY_MARGIN = 0.10
CPU_MARGIN = 0.20
#: a latency that rose by less than this has not got worse, whatever the ratio
LATENCY_FLOOR_S = 0.001
HARM_WITHOUT_INTERVAL = 1.5
ERROR_SHARE_MARGIN = 0.005
SIZE_MARGIN = 0.25
MEMORY_SHARE_MAX, MEMORY_MARGIN, MIB = 0.9, 0.05, 2**20
#: answers are compared by size only where almost the same requests were answered
SAME_ANSWERS = 0.02
REQUESTS_MIN = 10


def guards(pairs: Sequence[Pair], question: Question) -> tuple[Guard, ...]:
    """All guards that could be measured, beside the named metric itself."""
    watched = _watched(pairs, question)
    names = sorted({one.name for pair in pairs for window in pair for one in window.steps})
    found = [_errors(pairs), _memory(pairs), *(_ratio(pairs, one, question, len(watched)) for one in watched), *(_size(pairs, name) for name in names)]
    return tuple(guard for guard in found if guard is not None)


def alarm(pairs: Sequence[Pair], question: Question) -> str:
    """The first guard that is shown to be harmed by more than its margin, at an error rate that holds over all guards and looks; empty for none."""
    if (memory := _memory(pairs)) and not memory.ok:
        return memory.metric  # before the kernel ends the service
    watched = _watched(pairs, question)
    looks = Looks(question.pairs_max, 1 - 2 * (1 - question.confidence) / max(1, len(watched)))  # one-sided
    for one in watched:
        logs = _logs(pairs, one)
        if len(logs) > 2 and looks.interval(logs)[1] > log(1 + one.margin) and _felt(pairs, one):
            return one.name
    return ""


def guards_ok(verdict: Verdict) -> bool:
    """True where no guard failed."""
    return all(guard.ok for guard in verdict.guards)


@dataclass(frozen=True)
class _Watched:
    name: str
    step: str | None
    metric: str
    margin: float


def _watched(pairs: Sequence[Pair], question: Question) -> list[_Watched]:
    names = sorted({one.name for pair in pairs for window in pair for one in window.steps} - {question.step})
    several = len(names) + (question.step is not None) > 1
    watched = [
        _Watched("p95 of all requests", None, "p95_s", LATENCY_MARGIN),
        _Watched("p99 of all requests", None, "p99_s", LATENCY_MARGIN),
        _Watched("CPU per request", None, "cpu_per_request", CPU_MARGIN),
        *(_Watched(f"p95 of {name}", name, "p95_s", LATENCY_MARGIN) for name in names if several),
    ]
    return [one for one in watched if (one.step, one.metric) != (question.step, question.metric)]


def _logs(pairs: Sequence[Pair], one: _Watched) -> list[float]:
    levels = [(level([a], one.step, one.metric), level([b], one.step, one.metric)) for a, b in pairs if _enough((a, b), one.step)]
    return [log(b / a) for a, b in levels if a and b]


def _felt(pairs: Sequence[Pair], one: _Watched) -> bool:
    """A latency must have risen by something that a person could notice."""
    before, after = (level([pair[arm] for pair in pairs], one.step, one.metric) for arm in (0, 1))
    return one.metric == "cpu_per_request" or (before is not None and after is not None and after - before > LATENCY_FLOOR_S)


def _ratio(pairs: Sequence[Pair], one: _Watched, question: Question, of: int) -> Guard | None:
    before, after = (level([pair[arm] for pair in pairs], one.step, one.metric) for arm in (0, 1))
    logs = _logs(pairs, one)
    if before is None or after is None or len(logs) < 2:
        return None
    shared = 1 - 2 * (1 - question.confidence) / max(1, of)  # one-sided, Bonferroni
    mean, low, high = t_interval(logs, shared)
    felt = _felt(pairs, one)
    harm = mean > log(1 + one.margin) and felt and (low > 0 or (min(logs) > 0 and mean > log(HARM_WITHOUT_INTERVAL)))
    upper = t_interval(logs, 1 - 2 * (1 - question.confidence))[2]
    shown = upper < log(1 + one.margin) or (not felt and after - before <= LATENCY_FLOOR_S and one.metric != "cpu_per_request")
    ok = not harm and (shown or not question.non_inferiority)
    ratio = Estimate(value=exp(mean), low=exp(low), high=exp(high) if isfinite(high) and high < 700 else None, n=len(logs), confidence=shared)
    return Guard(metric=one.name, ok=ok, before=before, after=after, ratio=ratio, bound=_bound(one.margin, harm, shown, question))


def _bound(margin: float, harm: bool, shown: bool, question: Question) -> str:
    if harm:
        return f"may be worse by at most {margin:.0%}"
    if shown:
        return f"shown to be worse by less than {margin:.0%}"
    return f"must be shown to be worse by less than {margin:.0%}" if question.non_inferiority else f"not shown to be worse by more than {margin:.0%}"


def _enough(pair: Pair, step: str | None) -> bool:
    return all(sum(one.ok for one in samples(window, step)) >= REQUESTS_MIN for window in pair)


def _errors(pairs: Sequence[Pair]) -> Guard | None:
    """More errors than chance would make of the share without the change; rounds share their luck, so three standard errors are asked for."""
    (sent_a, failed_a), (sent_b, failed_b) = (sent_and_failed([pair[arm] for pair in pairs]) for arm in (0, 1))
    if not sent_a or not sent_b:
        return None
    before, after = failed_a / sent_a, failed_b / sent_b
    pooled = (failed_a + failed_b + 1) / (sent_a + sent_b + 2)
    error = sqrt(pooled * (1 - pooled) * (1 / sent_a + 1 / sent_b))
    harm = after - before > ERROR_SHARE_MARGIN and after - before > 3 * error
    return Guard(metric="error rate", ok=not harm, before=before, after=after, bound=f"not shown to rise by more than {ERROR_SHARE_MARGIN:.1%} of requests")


def _memory(pairs: Sequence[Pair]) -> Guard | None:
    """Memory is there to be used; what is harm is to come near its limit with the change, and not without it."""
    held = [[pair[arm].memory_bytes or 0 for pair in pairs] for arm in (0, 1)]
    limits = [window.memory_limit_bytes for pair in pairs for window in pair if window.memory_limit_bytes]
    before, after = (max(one, default=0) for one in held)
    if not before or not after or not limits:
        return None
    ok = after <= MEMORY_SHARE_MAX * min(limits) or after <= before * (1 + MEMORY_MARGIN)
    return Guard(metric="memory, MiB", ok=ok, before=before / MIB, after=after / MIB, bound=f"at most {MEMORY_SHARE_MAX:.0%} of {min(limits) / MIB:.0f}")


def _size(pairs: Sequence[Pair], step: str) -> Guard | None:
    """Bytes of an answer: a change that makes answers shorter or longer did not keep their meaning."""
    totals = []
    for arm in (0, 1):
        parts = [one for pair in pairs for one in samples(pair[arm], step)]
        sent, ok = sum(one.sent for one in parts), sum(one.ok for one in parts)
        if ok < REQUESTS_MIN or sent - ok > SAME_ANSWERS * sent:
            return None
        totals.append((ok, sum(one.bytes_in for one in parts) / ok))
    (ok_a, before), (ok_b, after) = totals
    if before <= 0 or after <= 0 or abs(ok_a - ok_b) > SAME_ANSWERS * ok_a:
        return None
    ok = abs(log(after / before)) <= log(1 + SIZE_MARGIN)
    return Guard(metric=f"bytes per answer of {step}", ok=ok, before=before, after=after, bound=f"within {SIZE_MARGIN:.0%}")
