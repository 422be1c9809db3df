"""Calls that fail are made again and again, within the request.

What it finds
    Endpoints that call a service several times per request because the calls before failed, with or without a pause between.

Why it costs you
    The user waits for every attempt, and a service in trouble gets a multiple of its traffic exactly when it can bear it least.

How it decides
    The line that calls is inside a ``try`` in a loop whose handler goes on, or a retry library is on the stack. Sent alone, the endpoint makes at least
    ``calls_min`` calls per request that way, and spends at least ``share_min`` of its time and ``request_min_s`` on the calls and the pauses between.

What would disprove it
    The first attempt succeeds: one call per request reaches the peer.

How to fix
    Repair why the calls fail; retry at most once, with a growing and random pause, within a budget for all requests (a circuit breaker), and never on several levels.

Sources
    Nygard, "Release It!" (circuit breaker); Google SRE Book, "Addressing Cascading Failures: Retries".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from perfloop.diagnose.calls import calls_of, retry_line
from perfloop.diagnose.finish import at, code_change, conclude, gain, ms, percent, place_of, share_of, where
from perfloop.diagnose.frames import Doing, library_path
from perfloop.diagnose.reading import HTTP_PEERS, Reading, Sample, StepView, by_place
from perfloop.model.evidence import Evidence, Frame
from perfloop.model.finding import Confidence, Finding, RuleResult

ID = "retry-storm"
NEEDS = ("solo", "sockets")
THRESHOLDS = {"calls_min": 1.8, "share_min": 0.3, "request_min_s": 0.01}

_LIBRARY = re.compile(r"^/(tenacity|backoff|retry|retrying|stamina|urllib3/util/retry\.py|google/api_core/retry)")


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge every endpoint that was sent alone."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    found: list[Finding] = []
    for step in reading.steps.values():
        calls = step.trips(HTTP_PEERS)
        samples = calls_of(reading, step, Doing.HTTP)
        place = retry_line(reading, samples) or _by_library(samples)
        if place is None or calls < limit["calls_min"] or not step.solo_s:
            continue
        pauses = sum(sample.wait for sample in step.samples if _pauses(reading, sample, place))
        waited = min(step.solo_s, max(sum(sample.wait for sample in step.samples if sample.waits_for is Doing.HTTP), step.waited(HTTP_PEERS)))
        if _is_async(reading, place):  # the pauses of a coroutine are on no stack: what is left of its time beside computing
            pauses = max(0.0, step.solo_s - waited - sum(sample.cpu for sample in step.samples))
        if waited + pauses >= max(limit["share_min"] * step.solo_s, limit["request_min_s"]):
            found.append(_finding(reading, step, place, calls, waited, min(pauses, step.solo_s - waited)))
    found.sort(key=lambda finding: -finding.win_back_per_s)
    return conclude(ID, evidence, found, "no endpoint repeats calls that failed within a request")


def _by_library(samples: list[Sample]) -> Frame | None:
    under = [sample for sample in samples if any(_LIBRARY.search(library_path(frame.file)) for frame in sample.beneath)]
    lines = by_place(under, lambda sample: sample.total)
    return lines[0][0] if lines else None


def _pauses(reading: Reading, sample: Sample, place: Frame) -> bool:
    return sample.waits_for in (Doing.SLEEP, Doing.OTHER) and any((frame.file, frame.function) == (place.file, place.function) for frame in sample.app)


def _is_async(reading: Reading, place: Frame) -> bool:
    function = reading.code.function(place.file, place.line)
    return function is not None and function.is_async


def _finding(reading: Reading, step: StepView, place: Frame, calls: float, waited: float, pauses: float) -> Finding:
    spent = waited + pauses
    saved = spent - waited / calls  # one call would remain
    share = share_of(spent, step.solo_s or 0.0, sum(sample.count for sample in step.samples) or step.requests, "this endpoint alone")
    advice = "find out why the calls fail; retry at most once, after a growing random pause, and stop trying for a while when most fail"
    facts = [
        f"{calls:.1f} calls to other services per request of {step.name}, alone ({step.requests} requests), from a line that tries again when the call failed",
        f"{at(place, reading.source_root)} in {place.function}()",
        f"the calls take {ms(waited)} and the pauses between them {ms(pauses)} of {ms(step.solo_s or 0.0)} per request",
    ]
    won = saved * step.rate_per_s
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY,
        title=f"{step.name} tries its call {calls:.1f} times per request, {percent(spent / (step.solo_s or spent))} of its time",
        place=place_of(place),
        steps=(step.name,),
        share=share,
        win_back_s=gain(won, step.rate_per_s, share, "this endpoint alone"),
        win_back_per_s=won,
        evidence=tuple(facts),
        hypothesis="the first attempts fail, and the request waits for all of them",
        disproof="one call per request reaches the peer",
        fix=where(place, reading.source_root) + advice,
        prevention="count attempts per call and alert on their ratio; a retry budget",
        actor="backend developer",
        proposals=code_change("bound the retries", place, advice),
    )
