"""One request asks the cache server many times, one key at a time.

What it finds
    Endpoints that make many round trips to Redis or Memcached per request.

Why it costs you
    A cache answers in microseconds, and the round trip takes many times that: forty of them cost more than the query they were to spare.

How it decides
    Sent alone, the endpoint makes at least ``calls_min`` round trips per request to a cache server (counted by the agent, in traces or by the kernel), and spends at least ``share_min``
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

from perfloop.diagnose.finish import conclude
from perfloop.diagnose.frames import Doing
from perfloop.diagnose.reading import Reading
from perfloop.diagnose.repeats import Repeats, delay_slope, nothing_counts, repeated, unknown_calls
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Finding, RuleResult

ID = "chatty-cache"
NEEDS = ("solo",)
THRESHOLDS = {"calls_min": 8.0, "share_min": 0.3, "request_min_s": 0.001, "many": 20.0}

CACHES = frozenset({"redis", "memcached"})
_WORDS = Repeats(
    rule=ID,
    peers=CACHES,
    doing=Doing.CACHE,
    asks="asks the cache",
    calls="round trips to the cache server",
    hypothesis="keys are read one at a time that could be read together",
    disproof="the commands are pipelined already",
    advice="ask for all keys at once: MGET, HMGET or a pipeline",
    prevention="assert the number of cache round trips in tests",
    change="read the keys together",
    kind="cache",
)


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge every endpoint that was sent alone."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    if nothing_counts(evidence, reading):
        return unknown_calls(ID)
    most = max((_WORDS.per_request(step) for step in reading.steps.values()), default=0.0)
    found: list[Finding] = []
    for step in reading.steps.values():
        calls = _WORDS.per_request(step)
        on_stacks = sum(sample.total for sample in step.samples if Doing.CACHE in (sample.layer, sample.waits_for))
        spent = min(step.solo_s or 0.0, max(on_stacks, step.waited(CACHES), _WORDS.seconds(step)))
        if calls >= limit["calls_min"] and step.solo_s and spent >= max(limit["share_min"] * step.solo_s, limit["request_min_s"]):
            slope = delay_slope(
                step, CACHES, "redis", calls, "if latency grows by fewer round trips than were counted, they are pipelined or made in parallel already"
            )
            found.append(repeated(reading, step, _WORDS, calls, spent, limit, slope))
    found.sort(key=lambda finding: -finding.win_back_per_s)
    return conclude(
        ID, evidence, found, f"no endpoint makes {limit['calls_min']:.0f} or more round trips to a cache server that cost it; the most is {most:.1f}"
    )
