"""Performance budgets against the rounds of a gate: an interval that contains the bound decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log

from perfloop.model.config import BudgetConfig
from perfloop.model.replies import BudgetCheck
from perfloop.model.run import Window
from perfloop.stats.intervals import geometric_t_interval
from perfloop.validate.levels import level, samples, sent_and_failed
from perfloop.validate.question import Question
from perfloop.validate.validity import Pair

_SECONDS = {"p50_ms": "p50_s", "p95_ms": "p95_s", "p99_ms": "p99_s", "mean_ms": "mean_s", "cpu_ms_per_request": "cpu_per_request"}


Sides = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Queries:
    """Queries per request by step ("" for all requests, by their weights) on either side, one value a batch; ``why`` none could be counted."""

    by_step: Mapping[str, Sides] = field(default_factory=dict)
    why: str = ""


def check_budgets(budgets: Sequence[BudgetConfig], pairs: Sequence[Pair], question: Question, queries: Queries | None = None) -> tuple[BudgetCheck, ...]:
    """One check for each bound. Relative ones use the anytime-valid interval, because the rounds ended when the comparison decided."""
    found: list[BudgetCheck] = []
    for budget in budgets:
        step = budget.step or None
        name = f"{budget.metric} of {budget.step or 'all requests'}"
        if budget.metric == "queries_per_request":
            found += _queries(budget, name, queries or Queries())
            continue
        values = [(_value(a, step, budget.metric), _value(b, step, budget.metric)) for a, b in pairs]
        if budget.max is not None:
            found.append(_absolute(name, budget.max, [b for _, b in values if b is not None], question.confidence))
        if budget.worse_max is not None:
            found.append(_relative(name, budget.worse_max, [log(b / a) for a, b in values if a and b], question))
    return tuple(found)


def _absolute(name: str, bound: float, values: Sequence[float], confidence: float) -> BudgetCheck:
    text = f"at most {bound:g}"
    if not values:
        return BudgetCheck(name=name, bound=text, measured="not measured", ok=None)
    if min(values) <= 0:
        mean = sum(values) / len(values)
        return BudgetCheck(name=name, bound=text, measured=f"{mean:.4g} over {len(values)} rounds", ok=mean <= bound)
    mean, low, high = geometric_t_interval(values, confidence)
    ok = True if high <= bound else False if low > bound else None
    return BudgetCheck(name=name, bound=text, measured=f"{mean:.4g} ({low:.4g} to {high:.4g}) over {len(values)} rounds", ok=ok)


def _relative(name: str, bound: float, logs: Sequence[float], question: Question) -> BudgetCheck:
    text = f"at most {bound:.0%} higher"
    if len(logs) < 2:
        return BudgetCheck(name=name, bound=text, measured="not measured", ok=None)
    centre, low, high = question.looks.interval(logs)
    ok = True if high <= log(1 + bound) else False if low > log(1 + bound) else None
    span = f" ({exp(low) - 1:+.1%} to {exp(high) - 1:+.1%})" if abs(low) < 50 and abs(high) < 50 else ""
    return BudgetCheck(name=name, bound=text, measured=f"{exp(centre) - 1:+.1%}{span} over {len(logs)} pairs", ok=ok)


def _queries(budget: BudgetConfig, name: str, queries: Queries) -> list[BudgetCheck]:
    """Counts have no noise to speak of: all batches of a side must agree on the answer, else there is none."""
    bounds = [(f"at most {budget.max:g}", budget.max, budget.max)] if budget.max is not None else []
    sides = queries.by_step.get(budget.step)
    if sides is None:
        texts = [text for text, _, _ in bounds] + ([f"at most {budget.worse_max:.0%} higher"] if budget.worse_max is not None else [])
        return [BudgetCheck(name=name, bound=text, measured=f"not measured: {queries.why or 'no such step'}", ok=None) for text in texts]
    old, new = sides
    if budget.worse_max is not None:
        bounds.append((f"at most {budget.worse_max:.0%} higher than {max(old):g}", min(old) * (1 + budget.worse_max), max(old) * (1 + budget.worse_max)))
    checks = []
    for text, low, high in bounds:
        ok = True if max(new) <= low + 1e-9 else False if min(new) > high + 1e-9 else None
        span = f"{min(new):.4g}" if max(new) - min(new) < 5e-4 * max(new) else f"{min(new):.4g} to {max(new):.4g}"
        checks.append(BudgetCheck(name=name, bound=text, measured=f"{span} ({min(old):.4g} before)", ok=ok))
    return checks


def _value(window: Window, step: str | None, metric: str) -> float | None:
    if metric == "error_rate":
        sent, failed = sent_and_failed([window], step)
        return failed / sent if sent else None
    if metric == "bytes_per_response":
        parts = samples(window, step)
        ok = sum(one.ok for one in parts)
        return sum(one.bytes_in for one in parts) / ok if ok else None
    value = level([window], step, _SECONDS[metric])
    return value * 1000 if value is not None else None
