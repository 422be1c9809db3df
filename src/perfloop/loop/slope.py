"""The delay slope: every round trip to a dependency is held back by d; latency grows by d times the sequential round trips of a request.

A slope of zero refutes the dependency on the critical path. A slope never proves that a query is slow: it counts, and no more. What is delayed is one request at a time,
so that no pool is more than half used: a queue in front of a pool would look like further round trips.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from perfloop.model.base import Estimate
from perfloop.model.evidence import ExperimentResult
from perfloop.model.finding import Finding
from perfloop.model.journey import Step
from perfloop.model.run import StepSamples
from perfloop.stats.intervals import slope_interval
from perfloop.wire.client import TapCounters

DELAY_SLOPE_MAX_S = 10.0
WARM_REQUESTS = 4
RUN_REQUESTS = (4, 30)
#: the order of the delays, as shares of the largest: each round has all of them, and a drift over time favours none. Zero is not among them: a server that is asked at once
#: is still awake, so that from none to some delay latency grows by more than the delay
LEVELS = (0.25, 1.0, 0.625, 0.625, 0.25, 1.0, 1.0, 0.625, 0.25, 0.25, 1.0, 0.625)
DELAY_MIN_MS, DELAY_MAX_MS = 4.0, 50.0  # of the largest
ADDED_MIN_S = 0.02  # per request at the largest delay: enough to be told from noise
ADDED_SHARE = 1.0  # of the request's own time
OFF_PATH = 0.5  # round trips: a slope below is none
USE_MAX = 0.5  # of the delayed pool


class TapInPlace(Protocol):
    """A tap between the service and one dependency. ``pool_max``: connections that the service may open there, None where that is not known."""

    pool_max: int | None

    def counters(self) -> TapCounters:
        """What went through so far."""

    def set_delay(self, delay_ms: float) -> TapCounters:
        """Hold back each turn from now on."""


@dataclass(frozen=True)
class Run:
    """Some requests at one delay: ``held_s`` per round trip, in fact; ``mean_s`` latency; ``trips`` per request; ``busy`` connections at once at most."""

    held_s: float
    mean_s: float
    trips: float
    busy: int
    open: int
    requests: int


Solo = Callable[[Step, int, float], StepSamples]
Result = Callable[..., ExperimentResult]


def delay_slope(finding: Finding, step: Step | None, tap: TapInPlace, solo: Solo, result: Result) -> ExperimentResult:
    """Measure it; the tap's delay is 0 again at the end. ``result`` makes the words of the experiment."""
    if step is None:
        return result(finding, note="the endpoint is not a GET of this load")
    params: dict[str, Any] = finding.experiment.params if finding.experiment else {}
    expected = float(params.get("trips", 0.0))
    peer = str(params.get("peer", "the dependency"))
    deadline = time.monotonic() + DELAY_SLOPE_MAX_S
    try:
        tap.set_delay(0.0)
        solo(step, WARM_REQUESTS, 2.0)  # the service has just been restarted
        first = _run(step, tap, solo, 8, 1.5)
        if first is None:
            return result(finding, note=f"{step.name} was not answered through the tap")
        if first.trips < OFF_PATH:
            connected = tap.counters().connections > 0
            note = f"{step.name} makes {first.trips:.1f} round trips per request to {peer}" + ("" if connected else "; nothing connected through the tap")
            return result(finding, supports=False if connected else None, note=note)
        before = tap.counters()
        runs = _runs(step, tap, solo, first, deadline)
        most = _most(before, tap.counters(), sum(run.requests for run in runs))
    finally:
        tap.set_delay(0.0)
    return _judge(finding, step, peer, expected, runs, tap.pool_max, most, result)


def _most(before: TapCounters, after: TapCounters, requests: int) -> str:
    """What was asked most often, per request; empty where the tap could not read it."""
    counts = {label: group.count - (before.groups[label].count if label in before.groups else 0) for label, group in after.groups.items()}
    if not counts or not requests:
        return ""
    label = max(counts, key=lambda one: counts[one])
    return f"; most often ({counts[label] / requests:.1f} times per request): {label[:120]}" if counts[label] else ""


def _runs(step: Step, tap: TapInPlace, solo: Solo, first: Run, deadline: float) -> list[Run]:
    added_s = max(ADDED_MIN_S, ADDED_SHARE * first.mean_s)
    largest_ms = min(DELAY_MAX_MS, max(DELAY_MIN_MS, 1000 * added_s / first.trips))
    runs: list[Run] = []
    for number, share in enumerate(LEVELS):
        left_s = (deadline - time.monotonic()) / (len(LEVELS) - number)
        if left_s <= 0.05:
            break
        delay_ms = largest_ms * share
        tap.set_delay(delay_ms)
        one_s = first.mean_s + first.trips * delay_ms / 1000
        requests = min(RUN_REQUESTS[1], max(RUN_REQUESTS[0], int(left_s / max(one_s, 1e-3))))
        run = _run(step, tap, solo, requests, max(left_s, one_s))
        runs += [run] if run else []
    return runs


def _run(step: Step, tap: TapInPlace, solo: Solo, requests: int, longest_s: float) -> Run | None:
    before = tap.counters()
    seen = solo(step, requests, longest_s)
    after = tap.counters()
    answered = sum(seen.latency.counts)
    if not answered or seen.sent < 1:
        return None
    trips = after.round_trips - before.round_trips
    held_s = (after.delayed_s - before.delayed_s) / trips if trips else 0.0
    return Run(held_s, seen.latency.sum_s / answered, trips / seen.sent, after.busy_max, after.open, seen.sent)


def _judge(finding: Finding, step: Step, peer: str, expected: float, runs: list[Run], pool_max: int | None, most: str, result: Result) -> ExperimentResult:
    held = [run.held_s for run in runs]
    if len(runs) < 4 or max(held) - min(held) < 0.5 * DELAY_MIN_MS / 1000:
        return result(finding, note="there was not time for enough runs")
    slope, low, high = slope_interval(held, [run.mean_s for run in runs])
    counted = sum(run.trips * run.requests for run in runs) / sum(run.requests for run in runs)
    note = (
        f"each round trip to {peer} held back by {min(held) * 1000:.1f} to {max(held) * 1000:.1f} ms: latency grows by {slope:.1f} ms per ms"
        f" ({low:.1f} to {high:.1f}), so many sequential round trips does {step.name} make, of {counted:.1f} counted{most}"
    )
    supports: bool | None = None
    if high < max(OFF_PATH, 0.3 * expected):
        supports = False
    elif expected and slope >= 0.6 * expected and low > OFF_PATH:
        busy = max(run.busy for run in runs)
        pool = pool_max or max(run.open for run in runs)
        if busy > 1 and busy > USE_MAX * pool:
            note += f"; but {busy} of {pool} connections were in use at once, so that queueing may add to it"
        else:
            supports = True
    if not expected and supports is None:
        note += ": it is on the critical path; whether it is slow, this does not tell"
    points = {"x": tuple(held), "y": tuple(run.mean_s for run in runs), "x_unit": "s held back per round trip", "y_unit": "s"}
    estimate = Estimate(value=slope, low=low, high=high, n=sum(run.requests for run in runs), unit="sequential round trips per request", source="delay slope")
    return result(finding, supports=supports, note=note, estimate=estimate, **points)
