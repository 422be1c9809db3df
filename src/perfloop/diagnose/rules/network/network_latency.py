"""The way to a peer takes longer than the peer's work.

What it finds
    Endpoints that spend much of their time on the network's own delay: many round trips to a peer, or a peer that is far away.

Why it costs you
    The delay is paid per round trip, whatever the peer does; it cannot be tuned away in the peer.

How it decides
    The kernel's smoothed round-trip time to a peer is at least ``rtt_min_ms``, and times the round trips per request, alone, it is at least ``share_min`` of
    the endpoint's time and ``request_min_s``. The time of an answer that carries the acknowledgement is in that figure: where the peer
    works for longer than the way takes, it is not counted.

What would disprove it
    Delaying each round trip by d makes a request slower by less than one d: the peer is not on its path.

How to fix
    Fewer round trips (batches, joins, pipelines, one call for all), a replica or cache nearby, the same zone; keep connections open.

Sources
    RFC 6298 (smoothed round-trip time); Gregg, "Systems Performance" (network latency); Coroot's network RTT inspection (behaviour).
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import code_change, conclude, gain, ms, percent, share_of
from perfloop.diagnose.reading import Reading, StepView
from perfloop.model.evidence import Evidence, PeerTraffic, SoloObservation
from perfloop.model.finding import Confidence, Finding, Place, RuleResult

ID = "network-latency"
NEEDS = ("solo", "sockets")
THRESHOLDS = {"rtt_min_ms": 2.0, "share_min": 0.3, "request_min_s": 0.004}

_WORK_RATIO = 1.5  # the wait of a round trip may be this many times the way; more is the peer's work


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge every peer of every endpoint, alone."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    found: list[Finding] = []
    longest = 0.0
    for solo in evidence.solo:
        step = reading.steps[solo.step]
        for peer in solo.sockets.peers if solo.sockets else ():
            rtt_s = (peer.rtt_ms or 0.0) / 1000
            longest = max(longest, rtt_s)
            trips = peer.round_trips / max(1, solo.requests)
            if rtt_s * 1000 < limit["rtt_min_ms"] or not step.solo_s or peer.host in ("127.0.0.1", "::1"):
                continue
            waited = (peer.waiting_s or 0.0) / max(1, solo.requests)
            if waited > _WORK_RATIO * trips * rtt_s:
                continue
            if trips * rtt_s >= max(limit["share_min"] * step.solo_s, limit["request_min_s"]):
                found.append(_finding(step, solo, peer, trips, rtt_s))
    found.sort(key=lambda finding: -finding.win_back_per_s)
    return conclude(ID, evidence, found, f"the longest way to a peer takes {ms(longest)}, or the peer's work explains it")


def _finding(step: StepView, solo: SoloObservation, peer: PeerTraffic, trips: float, rtt_s: float) -> Finding:
    spent = min(step.solo_s or 0.0, trips * rtt_s)
    share = share_of(spent, step.solo_s or 0.0, solo.requests, "this endpoint alone")
    saved = spent * (1 - 1 / max(trips, 1.0)) if trips > 1.5 else spent
    name = f"{peer.host}:{peer.port}"
    advice = "fewer round trips (batches, joins, pipelines), and the peer, a replica or a cache nearby"
    won = saved * step.rate_per_s
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY,
        title=f"{step.name} spends {percent(spent / (step.solo_s or spent))} of its time on the way to {name}",
        place=Place(peer=name),
        steps=(step.name,),
        share=share,
        win_back_s=gain(won, step.rate_per_s, share, "this endpoint alone"),
        win_back_per_s=won,
        evidence=(
            f"the way to {name} ({peer.kind}) and back takes {ms(rtt_s)}, by the kernel's smoothed figure",
            f"{trips:.1f} round trips per request of {step.name} ({solo.requests} requests alone): {ms(spent)} of {ms(step.solo_s or 0.0)}",
        ),
        hypothesis="the delay of the network is paid once per round trip",
        disproof="a delay that is added to each round trip does not slow the request down by as many",
        fix=advice,
        prevention="a budget of round trips per request",
        actor="cloud architect",
        proposals=code_change("fewer or shorter round trips", None, advice),
    )
