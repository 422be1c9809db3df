"""Runs one window of load and makes it a ``Window``: merged counts, lateness, and whether the generator was good enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import cast

from perfloop.load.engines import http
from perfloop.load.engines.base import End, Engine, Second
from perfloop.load.merge import merge_checks, merge_counts, merge_journeys, merge_slots, merge_steps
from perfloop.model.journey import Workload
from perfloop.model.run import CheckSamples, HistogramData, JourneySamples, SecondSamples, StepSamples, Window
from perfloop.stats.histogram import Histogram

LATENESS_MIN_S = 0.001
LATENESS_SHARE = 0.1
BUSY_MAX = 0.9
SLOTS_MAX = 3_600  # kept of one window; then two become one
PARTS_MAX = 16  # of a step, before they are merged


@dataclass(frozen=True)
class Progress:
    """A window so far: all requests that were due, successes, failures, and the latencies of the successes.

    ``second`` is what is new; ``so_far()`` makes a window of what there is, for whoever is stopped in the middle.
    """

    elapsed_s: float
    sent: int
    ok: int
    errors: int
    histogram: Histogram
    second: Second
    second_s: float  # how long it was
    errors_by_class: dict[str, int]
    so_far: Callable[[], Window]


@dataclass
class _Total:
    """The window so far. Names of steps appear as they come: those of a script are not known before."""

    steps: dict[str, list[StepSamples]]
    journeys: dict[str, JourneySamples] = field(default_factory=dict)
    checks: dict[str, CheckSamples] = field(default_factory=dict)
    latency: Histogram = field(default_factory=Histogram)
    per_second_p95_s: list[float] = field(default_factory=list)
    slots: list[SecondSamples] = field(default_factory=list)
    slot_s: float = 1.0
    told_s: float = 1.0  # how often the engine tells its counts
    last_s: float = 0.0
    elapsed_s: float = 0.0
    sent: int = 0
    ok: int = 0
    errors: int = 0
    by_class: dict[str, int] = field(default_factory=dict)

    def add(self, second: Second) -> None:
        """One second: its counts, its p95 (0 without any success) and its slot."""
        self.elapsed_s = second.elapsed_s
        for new in second.steps:
            parts = self.steps.setdefault(new.name, [])
            parts.append(new)
            if len(parts) >= PARTS_MAX:
                parts[:] = [merge_steps(new.name, parts)]
        self.journeys = {j.name: j for j in merge_journeys((*self.journeys.values(), *second.journeys))}
        self.checks = {c.name: c for c in merge_checks((*self.checks.values(), *second.checks))}
        now = merge_steps("total", second.steps)
        latency = Histogram.from_data(now.latency)
        self.latency.merge(latency)
        self.per_second_p95_s.append(latency.quantile(0.95) or 0.0)
        self.sent, self.ok, self.errors = self.sent + now.sent, self.ok + now.ok, self.errors + sum(now.errors.values())
        self.by_class = merge_counts((self.by_class, now.errors))
        slot = SecondSamples(
            elapsed_s=second.elapsed_s, sent=now.sent, ok=now.ok, errors=now.errors, bytes_in=now.bytes_in, users=second.users, latency=now.latency
        )
        if self.slots and second.elapsed_s - self.last_s < self.slot_s - self.told_s / 2:
            self.slots[-1] = merge_slots((self.slots[-1], slot))
        else:
            self.slots.append(slot)
            self.last_s = second.elapsed_s
        if len(self.slots) > SLOTS_MAX:
            self.slots = [merge_slots(self.slots[i : i + 2]) for i in range(0, len(self.slots), 2)]
            self.slot_s *= 2


def run_window(workload: Workload, label: str, engine: ModuleType = http) -> Generator[Progress, None, Window]:
    """Sends one window; yields its progress once a second and returns it. The service's CPU time is the caller's to fill in.

    Closing the generator ends the load at once. Raises ``UsageError`` for a workload that cannot be sent and ``CannotMeasure``
    where the generator failed; a service that fails is counted, not raised.
    """
    total = _Total({step.name: [] for journey in workload.all_journeys for step in journey.steps}, slot_s=workload.slot_s, told_s=workload.slot_s)
    started_at = time.time()
    load = cast(Engine, engine).run(workload)
    try:
        while True:
            try:
                second = next(load)
            except StopIteration as stop:
                return _window(workload, label, total, stop.value)
            second_s = max(0.1, second.elapsed_s - total.elapsed_s)
            total.add(second)
            yield Progress(
                second.elapsed_s,
                total.sent,
                total.ok,
                total.errors,
                total.latency,
                second,
                second_s,
                dict(total.by_class),
                partial(_so_far, workload, label, total, started_at),
            )
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


def _so_far(workload: Workload, label: str, total: _Total, started_at: float) -> Window:
    """What was measured until now, of a window that does not go on."""
    end = End(started_at=started_at, duration_s=total.elapsed_s, lateness=HistogramData(), stopped_early="interrupted")
    window: Window = _window(workload, label, total, end).with_(achieved_per_s=None)
    return window


def _window(workload: Workload, label: str, total: _Total, end: End) -> Window:
    lateness_s = Histogram.from_data(end.lateness).quantile(0.99) or 0.0
    steps = tuple(merge_steps(name, parts) for name, parts in total.steps.items())
    own = workload.script is None or not workload.script.tool  # else the tool decides what is sent
    rate_per_s = (workload.rate_per_s if own else 0.0) or (total.sent / end.duration_s if end.duration_s else 0.0)
    level = workload.rate_per_s > 0 and not (workload.stages or workload.ramp_up_s or workload.journeys or workload.script)
    return Window(
        label=label,
        started_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end.started_at)),
        duration_s=end.duration_s,
        rate_per_s=rate_per_s,
        steps=steps,
        lateness_p99_s=lateness_s,
        # closed users slow down with a generator that cannot keep up, and the time lost is in no latency: only its own load tells
        generator_ok=generator_ok(lateness_s, total.latency.quantile(0.5), end.busy),
        stopped_early=end.stopped_early,
        generator_cpu=workload.cpu,
        per_second_p95_s=tuple(total.per_second_p95_s) if len(total.per_second_p95_s) <= SLOTS_MAX else (),
        achieved_per_s=achieved_per_s(rate_per_s, total.sent, total.ok, end.arrived, end.answered) if level else None,
        slot_s=total.slot_s,
        per_second=tuple(total.slots),
        lateness=end.lateness,
        journeys=tuple(total.journeys.values()),
        checks=tuple(total.checks.values()),
        first_errors=end.first_errors,
        generator_busy=end.busy,
        users=workload.users,
        retries=end.retries,
    )
