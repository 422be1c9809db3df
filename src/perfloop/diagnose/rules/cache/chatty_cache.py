"""One request asks the cache server many times, one key at a time.

What it finds
    Endpoints that make many round trips to Redis or Memcached per request.

Why it costs you
    A cache answers in microseconds, and the round trip takes many times that: forty of them cost more than the query they were to spare.

How it decides
    Sent alone, the endpoint makes at least ``calls_min`` round trips per request to a cache server (counted by the kernel), and spends at least ``share_min``
    of its time and ``request_min_s`` in the cache client or waiting for the server. Likely where the line that asks is inside a loop, or from ``many`` on.

What would disprove it
    The calls are pipelined already: the round trips are fewer than the commands.

How to fix
    ``MGET``, ``HMGET`` or a pipeline for several keys; one key for what is read together; a small cache in the process before the server.

Sources
    Redis documentation, "Redis pipelining"; Smith & Williams, "Empty Semi Trucks".
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.calls import calls_of, repeated_place
from perfloop.diagnose.finish import at, code_change, conclude, gain, ms, percent, place_of, share_of, where
from perfloop.diagnose.frames import Doing
from perfloop.diagnose.reading import Reading, StepView
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, RuleResult

ID = "chatty-cache"
NEEDS = ("solo", "sockets")
THRESHOLDS = {"calls_min": 8.0, "share_min": 0.3, "request_min_s": 0.001, "many": 20.0}

CACHES = frozenset({"redis", "memcached"})


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge every endpoint that was sent alone."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    most = max((step.trips(CACHES) for step in reading.steps.values()), default=0.0)
    found: list[Finding] = []
    for step in reading.steps.values():
        calls = step.trips(CACHES)
        on_stacks = sum(sample.total for sample in step.samples if Doing.CACHE in (sample.layer, sample.waits_for))
        spent = min(step.solo_s or 0.0, max(on_stacks, step.waited(CACHES)))
        if calls >= limit["calls_min"] and step.solo_s and spent >= max(limit["share_min"] * step.solo_s, limit["request_min_s"]):
            found.append(_finding(reading, step, calls, spent, limit))
    found.sort(key=lambda finding: -finding.win_back_per_s)
    return conclude(
        ID, evidence, found, f"no endpoint makes {limit['calls_min']:.0f} or more round trips to a cache server that cost it; the most is {most:.1f}"
    )


def _finding(reading: Reading, step: StepView, calls: float, spent: float, limit: Mapping[str, float]) -> Finding:
    place, _ = repeated_place(reading, calls_of(reading, step, Doing.CACHE))
    looped = place is not None and reading.code.in_loop(place)
    share = share_of(spent, step.solo_s or 0.0, sum(sample.count for sample in step.samples) or step.requests, "this endpoint alone")
    saved = spent * (1 - 1 / calls)
    advice = "ask for all keys at once: MGET, HMGET or a pipeline"
    facts = [
        f"{calls:.0f} round trips to the cache server per request of {step.name} ({step.requests} requests alone)",
        f"they take {ms(spent)} of {ms(step.solo_s or 0.0)} per request",
    ]
    facts += [f"made at {at(place, reading.source_root)} in {place.function}()" + (", inside a loop" if looped else "")] if place else []
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY if looped or calls >= limit["many"] else Confidence.POSSIBLE,
        title=f"{step.name} asks the cache {calls:.0f} times per request, {percent(spent / (step.solo_s or spent))} of its time",
        place=place_of(place),
        steps=(step.name,),
        share=share,
        win_back_s=gain(saved * step.rate_per_s, step.rate_per_s, share, "this endpoint alone"),
        win_back_per_s=saved * step.rate_per_s,
        evidence=tuple(facts),
        hypothesis="keys are read one at a time that could be read together",
        disproof="the commands are pipelined already",
        fix=where(place, reading.source_root) + advice,
        prevention="assert the number of cache round trips in tests",
        proposals=code_change("read the keys together", place, advice),
    )
