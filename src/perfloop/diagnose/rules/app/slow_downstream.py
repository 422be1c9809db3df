"""A request waits most of its time for another service.

What it finds
    Endpoints that spend most of their time, also when sent alone, waiting for the answer of an HTTP service that they call.

Why it costs you
    The endpoint can never be faster than what it waits for, and each waiting request holds a worker, memory and often a connection.

How it decides
    Sent alone, the endpoint waits at least ``request_min_s`` per request for an HTTP peer, and that is at least ``share_min`` of its time. The wait is read
    from stacks below an HTTP client library, and from its sockets for asynchronous services. A call that blocks the event loop is not counted here.
    Likely where one call takes at least ``call_min_s``; many quicker calls in a row are possible.

What would disprove it
    The endpoint alone does not wait for its peer: the wait appears only under load, so it is a queue on our side.

How to fix
    Cache what changes slowly, call in parallel, call after the answer was sent, or set a timeout with a fallback; and speed up the peer.

Sources
    Nygard, "Release It!" (integration points, timeouts); Smith & Williams, "One-Lane Bridge".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perfloop.diagnose.calls import calls_of
from perfloop.diagnose.finish import at, conclude, gain, ms, percent, place_of, share_of
from perfloop.diagnose.frames import Doing
from perfloop.diagnose.reading import HTTP_PEERS, Reading, StepView, by_place
from perfloop.diagnose.repeats import delay_slope
from perfloop.model.evidence import Evidence, Frame
from perfloop.model.finding import Confidence, Finding, Proposal, RuleResult

ID = "slow-downstream"
NEEDS = ("solo",)
THRESHOLDS = {"share_min": 0.4, "call_min_s": 0.05, "request_min_s": 0.05}


@dataclass(frozen=True)
class Waits:
    """How long one request of an endpoint waits for its peer, alone, in how many calls, and under which line."""

    step: StepView
    peer: str
    waited_s: float
    calls: float
    place: Frame | None

    @property
    def per_call_s(self) -> float:
        """The wait of one call; of the whole request where the calls could not be counted."""
        return self.waited_s / self.calls if self.calls >= 1 else self.waited_s


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge every endpoint that was sent alone; those that wait for the same peer are one finding."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    peers: dict[str, list[Waits]] = {}
    for step in reading.steps.values():
        waits = _waits(reading, step, limit)
        if waits:
            peers.setdefault(waits.peer, []).append(waits)
    found = [_finding(reading, peer, waits, limit) for peer, waits in peers.items()]
    found.sort(key=lambda finding: -finding.win_back_per_s)
    return conclude(
        ID, evidence, found, f"no endpoint alone waits {ms(limit['request_min_s'])} and {percent(limit['share_min'])} of its time for another service"
    )


def _waits(reading: Reading, step: StepView, limit: Mapping[str, float]) -> Waits | None:
    samples = [sample for sample in step.samples if sample.waits_for is Doing.HTTP and not sample.on_loop]
    on_loop = sum(sample.wait for sample in step.samples if sample.waits_for is Doing.HTTP and sample.on_loop)
    waited = max(sum(sample.wait for sample in samples), step.waited(HTTP_PEERS) - on_loop)
    if not step.solo_s or waited < limit["request_min_s"] or waited < limit["share_min"] * step.solo_s:
        return None
    # a coroutine that waits is on no stack: there, the line from which the call is made
    lines = by_place(samples, lambda sample: sample.wait) or by_place(calls_of(reading, step, Doing.HTTP), lambda sample: sample.total)
    kind = max(HTTP_PEERS, key=lambda name: step.waiting_s.get(name, 0.0) + step.round_trips.get(name, 0.0) * 1e-6)
    return Waits(step, step.peers.get(kind, ""), min(waited, step.solo_s), step.trips(HTTP_PEERS), lines[0][0] if lines else None)


def _finding(reading: Reading, peer: str, waits: list[Waits], limit: Mapping[str, float]) -> Finding:
    waits.sort(key=lambda item: -item.waited_s * max(item.step.rate_per_s, 1e-6))
    worst = waits[0]
    name = peer or "another service"
    place = next((item.place for item in waits if item.place), None)
    per_s = sum(item.waited_s * item.step.rate_per_s for item in waits)
    rate = sum(item.step.rate_per_s for item in waits)
    share = share_of(worst.waited_s, worst.step.solo_s or 0.0, sum(sample.count for sample in worst.step.samples) or worst.step.requests, "this endpoint alone")
    facts = [
        f"{item.step.name} waits {ms(item.waited_s)} of {ms(item.step.solo_s or 0.0)} per request for {name}"
        + (f", {item.calls:.1f} calls of {ms(item.per_call_s)}" if item.calls >= 1 else "")
        + f", alone ({item.step.requests} requests)"
        for item in waits
    ]
    if place:
        facts.append(f"waiting under {at(place, reading.source_root)} in {place.function}()")
    advice = "cache the answer with a time to live, call in parallel or after responding, and set a timeout with a fallback"
    code = {"file": place.file if place else "", "line": place.line if place else 0, "advice": advice}
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY if max(item.per_call_s for item in waits) >= limit["call_min_s"] else Confidence.POSSIBLE,
        title=f"{worst.step.name} waits {ms(worst.waited_s)} per request for {name}",
        place=place_of(place).with_(peer=peer),
        steps=tuple(item.step.name for item in waits),
        share=share,
        win_back_s=gain(per_s, rate, share, "these endpoints alone"),
        win_back_per_s=per_s,
        evidence=tuple(facts),
        hypothesis="the endpoint is as slow as the service it calls",
        disproof="sent alone, the endpoint does not wait for its peer, or no later than it would without",
        experiment=delay_slope(
            worst.step, HTTP_PEERS, "http", 0.0, "if requests are as fast when each call takes longer, they do not wait for it", subject=name
        ),
        fix=f"{advice}; then speed up the peer",
        prevention="a latency budget and a timeout for every outgoing call",
        proposals=(Proposal(kind="code", title="do not wait for the peer in the request", params=code),),
    )
