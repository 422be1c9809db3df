"""Take CPU away: the share of a request that computes gets slower as a reference does; the share that waits does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from perfloop.loop import sweep
from perfloop.model.base import Estimate
from perfloop.model.evidence import ExperimentResult, SoloObservation
from perfloop.model.finding import Finding
from perfloop.model.journey import Step

CPU_LESS_MAX_S = 8.0
CPU_REQUESTS = 12
SLOWER_MIN = 1.15  # what does not slow the reference by this much tells nothing
REST_MAX_S = 0.5

#: (burst_s, rest_s) → takes CPU away while it is entered; gives the slow-down of a reference that computes and rests so, and how CPU is taken
Compete = Callable[[float, float], AbstractContextManager[tuple[float, str]]]
Result = Callable[..., ExperimentResult]


def cpu_less(finding: Finding, step: Step | None, compete: Compete, solo: Callable[[Step, int, float], SoloObservation], result: Result) -> ExperimentResult:
    """The endpoint alone, with CPU taken away, and alone again; the reference computes and waits as the finding says that a request does."""
    params = finding.experiment.params if finding.experiment else {}
    burst_s, expected = float(params.get("cpu_s", 0.0)), float(params.get("share", 0.0))
    if step is None or burst_s <= 0:
        return result(finding, note="the endpoint is not a GET of this load")
    deadline = time.monotonic() + CPU_LESS_MAX_S
    rest_s = min(REST_MAX_S, burst_s * (1 / expected - 1)) if 0 < expected < 1 else 0.0
    first = sweep.latency(solo(step, CPU_REQUESTS, _left(deadline, 1.2)))
    with compete(burst_s, rest_s) as (reference, how):
        if reference < SLOWER_MIN:
            return result(finding, note=f"{how} slows a reference by only {reference:.2f}")
        less = sweep.latency(solo(step, CPU_REQUESTS, _left(deadline, 2.4)))
    last = sweep.latency(solo(step, CPU_REQUESTS, _left(deadline, 1.2)))
    alone = min(first, last)
    if alone <= 0 or less <= 0 or max(first, last) > 1.5 * alone:
        return result(finding, note=f"the endpoint's time without {how} is not steady enough to tell")
    share = (less / alone - 1) / (reference - 1)
    note = (
        f"with {how} {step.name} takes {less * 1000:.1f} ms instead of {alone * 1000:.1f}, a reference of {burst_s * 1000:.0f} ms bursts"
        f" {reference:.2f} times as long: {share:.0%} of the request computes"
    )
    return result(
        finding,
        x=(0.0, 1.0, 0.0),
        y=(first, less, last),
        x_unit="CPU taken away",
        y_unit="s",
        supports=True if share >= 0.6 * expected else False if share <= 0.25 * expected else None,
        estimate=Estimate(value=share, n=CPU_REQUESTS, unit="share", source=f"slow-down with {how}, over that of the reference"),
        note=note,
    )


def _left(deadline: float, most_s: float) -> float:
    return max(0.2, min(most_s, deadline - time.monotonic()))
