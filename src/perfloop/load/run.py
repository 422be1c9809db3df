"""Runs one window of load and makes it a ``Window``: merged counts, lateness, and whether the generator was good enough."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import cast

from perfloop.load.engines import http
from perfloop.load.engines.base import End, Engine, Second
from perfloop.model.journey import Workload
from perfloop.model.run import StepSamples, Window
from perfloop.stats.histogram import Histogram

LATENESS_MIN_S = 0.001
LATENESS_SHARE = 0.1
BUSY_MAX = 0.9


@dataclass(frozen=True)
class Progress:
    """A window so far: all requests that were due, successes, failures, and the latencies of the successes."""

    elapsed_s: float
    sent: int
    ok: int
    errors: int
    histogram: Histogram


@dataclass
class _Step:
    sent: int = 0
    ok: int = 0
    bytes_in: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    latency: Histogram = field(default_factory=Histogram)

    def add(self, new: StepSamples) -> None:
        self.sent += new.sent
        self.ok += new.ok
        self.bytes_in += new.bytes_in
        for name, count in new.errors.items():
            self.errors[name] = self.errors.get(name, 0) + count
        self.latency.merge(Histogram.from_data(new.latency))


def run_window(workload: Workload, label: str, engine: ModuleType = http) -> Generator[Progress, None, Window]:
    """Sends one window; yields its progress once a second and returns it. The service's CPU time is the caller's to fill in.

    Closing the generator ends the load at once. Raises ``UsageError`` for a workload that cannot be sent and ``CannotMeasure``
    where the generator failed; a service that fails is counted, not raised.
    """
    steps = {step.name: _Step() for step in workload.steps}
    total = Histogram()
    per_second: list[float] = []
    load = cast(Engine, engine).run(workload)
    try:
        while True:
            try:
                second = next(load)
            except StopIteration as stop:
                return _window(workload, label, steps, total, per_second, stop.value)
            per_second.append(_take(second, steps, total))
            counts = steps.values()
            yield Progress(second.elapsed_s, sum(s.sent for s in counts), sum(s.ok for s in counts), sum(sum(s.errors.values()) for s in counts), total)
    finally:
        load.close()


def generator_ok(lateness_p99_s: float, p50_s: float | None, busy: float = 0.0) -> bool:
    """False when the generator was the bottleneck: p99 lateness above the larger of a tenth of the measured p50 and 1 ms.

    Also where it used more than 0.9 of its core: then its own queue is part of the p50, which must not excuse the lateness.
    """
    return lateness_p99_s <= max(LATENESS_SHARE * (p50_s or 0.0), LATENESS_MIN_S) and busy <= BUSY_MAX


def achieved_per_s(rate_per_s: float, sent: int, ok: int, arrived: Sequence[tuple[int, int]], answered: Sequence[tuple[int, int]]) -> float:
    """The rate at which successes came, from the middle 90 % of arrivals and of answers (bin, count).

    A service that keeps up spreads its answers over the same time as the arrivals, however long each takes; one that does not
    takes longer. Comparing the spans leaves out the luck of the schedule and stragglers at the end, which counts over time do not.
    """
    if not sent or not ok:
        return 0.0
    ratio = 1.0
    if ok >= 10:  # fewer have no middle
        ratio = min(1.0, _span(arrived) / _span(answered))
    return rate_per_s * ratio * ok / sent


def _span(bins: Sequence[tuple[int, int]]) -> float:
    total, seen, low, high = sum(count for _, count in bins), 0, None, 0
    for at, count in bins:
        seen += count
        if low is None and seen >= 0.05 * total:
            low = at
        if seen <= 0.95 * total:
            high = at
    return float(max(1, high - (low or 0)))


def _take(second: Second, steps: dict[str, _Step], total: Histogram) -> float:
    """Adds one second; its p95 in seconds, 0 for a second without any success."""
    now = Histogram()
    for new in second.steps:
        steps[new.name].add(new)
        now.merge(Histogram.from_data(new.latency))
    total.merge(now)
    return now.quantile(0.95) or 0.0


def _window(workload: Workload, label: str, steps: dict[str, _Step], total: Histogram, per_second: list[float], end: End) -> Window:
    lateness_s = Histogram.from_data(end.lateness).quantile(0.99) or 0.0
    sent, ok = sum(s.sent for s in steps.values()), sum(s.ok for s in steps.values())
    return Window(
        label=label,
        started_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end.started_at)),
        duration_s=end.duration_s,
        rate_per_s=workload.rate_per_s,
        steps=tuple(
            StepSamples(name=name, sent=s.sent, ok=s.ok, errors=s.errors, bytes_in=s.bytes_in, latency=s.latency.to_data()) for name, s in steps.items()
        ),
        lateness_p99_s=lateness_s,
        generator_ok=generator_ok(lateness_s, total.quantile(0.5), end.busy),
        stopped_early=end.stopped_early,
        generator_cpu=workload.cpu,
        per_second_p95_s=tuple(per_second),
        achieved_per_s=achieved_per_s(workload.rate_per_s, sent, ok, end.arrived, end.answered),
        retries=end.retries,
    )
