"""One request calls another service again and again, once per item.

What it finds
    Endpoints that make many calls to the same service per request from one place in a loop, one after another.

Why it costs you
    Each call costs a round trip and the peer's time; the page gets slower with each item, and the peer gets many times your traffic.

How it decides
    Sent alone, the endpoint makes at least ``calls_min`` calls per request to HTTP services (counted by the agent, in traces or by the kernel), waits for them at least ``share_min`` of
    its time and ``request_min_s`` per request. Likely where the line that calls is inside a loop, or from ``many`` calls on. A loop that calls again because
    the call failed is ``retry-storm``.

What would disprove it
    The number of calls stays the same when the request asks for more items.

How to fix
    One call for all items (a list of ids), or the calls in parallel with a bound; cache what rarely changes.

Sources
    Sentry, "N+1 API calls" (behaviour); Smith & Williams, "Circuitous Treasure Hunt".
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.calls import calls_of, retry_line
from perfloop.diagnose.finish import conclude
from perfloop.diagnose.frames import Doing
from perfloop.diagnose.reading import HTTP_PEERS, Reading, StepView, seconds
from perfloop.diagnose.repeats import Repeats, delay_slope, nothing_counts, repeated, unknown_calls
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Experiment, Finding, RuleResult

ID = "n-plus-one-http"
NEEDS = ("solo",)
THRESHOLDS = {"calls_min": 5.0, "share_min": 0.3, "request_min_s": 0.01, "many": 12.0}

_WORDS = Repeats(
    rule=ID,
    peers=HTTP_PEERS,
    doing=Doing.HTTP,
    asks="calls another service",
    calls="calls to other services",
    hypothesis="the same call is made once per item; one call for all would do",
    disproof="the number of calls stays the same when more items are asked for",
    advice="ask for all items in one call, or call in parallel with a bound",
    prevention="assert the number of outgoing calls in tests of list endpoints",
    change="call once for all items",
    kind="http",
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
        waited = min(step.solo_s or 0.0, max(seconds(step.samples, Doing.HTTP), step.waited(HTTP_PEERS), _WORDS.seconds(step)))
        if calls >= limit["calls_min"] and step.solo_s and waited >= max(limit["share_min"] * step.solo_s, limit["request_min_s"]):
            samples = calls_of(reading, step, Doing.HTTP)
            if not retry_line(reading, samples):
                found.append(repeated(reading, step, _WORDS, calls, waited, limit, _experiment(step, calls), samples))
    found.sort(key=lambda finding: -finding.win_back_per_s)
    return conclude(
        ID, evidence, found, f"no endpoint makes {limit['calls_min']:.0f} or more calls to other services per request that cost it; the most is {most:.1f}"
    )


def _experiment(step: StepView, calls: float) -> Experiment:
    return Experiment(
        kind="size-sweep",
        params={"subject": step.name, "step": step.name, "measure": "http-calls"},
        refutes="if the calls do not grow with the size of the result, this is not it",
        otherwise=delay_slope(step, HTTP_PEERS, "http", calls, "if latency does not grow with the delay of each call, they are not made one after another"),
    )
