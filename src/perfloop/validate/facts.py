"""What a stored run measured, as single facts that a text can be checked against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from perfloop.model.result import RunResult
from perfloop.model.run import StepSummary, Summary
from perfloop.model.verdict import Decision, Verdict

Kind = Literal["time", "rate", "share"]
Role = Literal["before", "after", "change"]
ALL = "all requests"


@dataclass(frozen=True)
class Fact:
    """One measured figure. ``kind`` says what is measured (seconds, requests a second, a share); a ``change`` holds after/before."""

    kind: Kind
    metric: str  # p50, p95, p99, mean, max, throughput, cpu, errors
    subject: str  # an endpoint, or all requests
    role: Role
    value: float
    run_id: str

    @property
    def text(self) -> str:
        """As a person would say it."""
        name = f"{self.metric} of {self.subject}" if self.metric not in ("throughput",) else self.metric
        if self.role == "change":
            return f"{name}: × {self.value:.3g} ({self.value - 1:+.1%})"
        value = f"{self.value * 1000:.4g} ms" if self.kind == "time" else f"{self.value:.4g}/s" if self.kind == "rate" else f"{self.value:.3%}"
        return f"{name} {self.role}: {value}"


def facts_of(result: RunResult) -> tuple[Fact, ...]:
    """All figures of a run that a text may quote."""
    return tuple(dict.fromkeys([*_levels(result), *_rates(result), *_verdicts(result), *_improvement(result)]))


def _levels(result: RunResult) -> Iterator[Fact]:
    sides: list[tuple[Role, Summary | None]] = [("before", result.before), ("after", result.after)]
    seen: dict[tuple[Kind, str, str, Role], float] = {}
    for role, summary in sides:
        if summary is None:
            continue
        for subject, step in ((ALL, summary.total), *((step.name, step) for step in summary.steps)):
            for kind, metric, value in _of_step(step):
                seen[(kind, metric, subject, role)] = value
        if summary.cpu_seconds_per_request:
            seen[("time", "cpu", ALL, role)] = summary.cpu_seconds_per_request
    for (kind, metric, subject, role), value in seen.items():
        yield Fact(kind, metric, subject, role, value, result.run_id)
        before = seen.get((kind, metric, subject, "before"))
        if role == "after" and before:
            yield Fact(kind, metric, subject, "change", value / before, result.run_id)


def _of_step(step: StepSummary) -> Iterator[tuple[Kind, str, float]]:
    for metric, estimate in (("p50", step.p50_s), ("p95", step.p95_s), ("p99", step.p99_s)):
        if estimate:
            yield "time", metric, estimate.value
    for metric, value in (("mean", step.mean_s), ("max", step.max_s)):
        if value:
            yield "time", metric, value
    if step.sent:
        yield "share", "errors", sum(step.errors.values()) / step.sent


def _rates(result: RunResult) -> Iterator[Fact]:
    before, after = (search.rate_per_s if search else None for search in (result.throughput_before, result.throughput_after))
    roles: list[tuple[Role, float | None]] = [("before", before), ("after", after), ("change", after / before if before and after else None)]
    for role, value in roles:
        if value:
            yield Fact("rate", "throughput", ALL, role, value, result.run_id)
    if result.rate_per_s:
        yield Fact("rate", "load", ALL, "before", result.rate_per_s, result.run_id)


def _verdicts(result: RunResult) -> Iterator[Fact]:
    for tried in result.tried:
        if tried.verdict is not None and tried.decision in (Decision.KEPT, Decision.UNDONE):
            yield from _of_verdict(tried.verdict, result.run_id)


def _of_verdict(verdict: Verdict, run_id: str) -> Iterator[Fact]:
    metric, _, subject = verdict.metric.partition(" of ")
    name = {"p95_s": "p95", "mean_s": "mean", "cpu_per_request": "cpu"}.get(metric, metric)
    parts: list[tuple[Role, float | None]] = [
        ("before", verdict.before.value if verdict.before else None),
        ("after", verdict.after.value if verdict.after else None),
        ("change", verdict.ratio.value if verdict.ratio else None),
        ("change", verdict.fresh_ratio.value if verdict.fresh_ratio else None),
    ]
    for role, value in parts:
        if value:
            yield Fact("time", name, subject or ALL, role, value, run_id)


def _improvement(result: RunResult) -> Iterator[Fact]:
    for name, metric in (("response_time", "p95"), ("cpu_per_request", "cpu")):
        if name in result.improvement:
            yield Fact("time", metric, ALL, "change", 1 - result.improvement[name].value, result.run_id)
