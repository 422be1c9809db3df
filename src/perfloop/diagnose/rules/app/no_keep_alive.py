"""A new connection is opened for every request.

What it finds
    Endpoints that open a connection to a database, cache or service in each request and close it again, instead of keeping some open.

Why it costs you
    A TCP handshake, often TLS and a login on top, before the first useful byte; and each closed connection keeps a local port for a minute.

How it decides
    Sent alone, the endpoint opens at least ``opened_min`` connections per request to one peer (by the socket table, TIME_WAIT included), and the
    connecting itself (frames that connect, shake hands or build the client on its stacks, or the round trips it takes) costs at least
    ``share_min`` of its time and ``request_min_s``. Likely where that cost was seen on stacks, else possible.

What would disprove it
    The number of connections opened does not grow with the requests.

How to fix
    One client or pool for the life of the process (``requests.Session``, a shared ``httpx.Client``, ``CONN_MAX_AGE`` or a pool in Django, a pool of the driver).

Sources
    RFC 9112 (persistent connections); Django documentation, "Persistent connections"; httpx documentation, "Clients"; PostgreSQL wiki, "Number of database connections".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from perfloop.diagnose.finish import at, code_change, conclude, gain, ms, percent, place_of, share_of, where
from perfloop.diagnose.frames import library_path
from perfloop.diagnose.reading import Reading, Sample, StepView, by_place
from perfloop.model.evidence import Evidence, PeerTraffic, SoloObservation
from perfloop.model.finding import Confidence, Finding, RuleResult

ID = "no-keep-alive"
NEEDS = ("solo", "sockets")
THRESHOLDS = {"opened_min": 0.7, "share_min": 0.1, "request_min_s": 0.0005}

_CONNECTS = re.compile(
    r"^_?(new_)?connect(_tcp|_ex|_gen|_unix|_async)?$|^_new_conn$|^create_connection$|^do_handshake$|^wrap_socket$|^open_connection$|^(get_)?new_connection$|^create_ssl_context$|^ensure_connection$|^start_tls$|^load_verify_locations$|^wait_conn"
)
_REQUESTS_MIN = 5


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge every endpoint that was sent alone."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    found: list[Finding] = []
    most = 0.0
    for solo in evidence.solo:
        peers = [peer for peer in (solo.sockets.peers if solo.sockets else ()) if peer.opened]
        if solo.requests < _REQUESTS_MIN or not peers:
            continue
        peer = max(peers, key=lambda item: item.opened or 0)
        opened = (peer.opened or 0) / solo.requests
        most = max(most, opened)
        step = reading.steps[solo.step]
        if opened >= limit["opened_min"] and step.solo_s:
            finding = _finding(reading, step, solo, peer, opened, limit)
            found += [finding] if finding else []
    found.sort(key=lambda finding: -finding.win_back_per_s)
    return conclude(ID, evidence, found, f"no endpoint opens {limit['opened_min']:g} connections per request that cost it; the most is {most:.2f}")


def _connecting(sample: Sample) -> bool:
    return any(library_path(frame.file) and _CONNECTS.search(frame.function.split(".")[-1]) for frame in sample.beneath)


def _finding(reading: Reading, step: StepView, solo: SoloObservation, peer: PeerTraffic, opened: float, limit: Mapping[str, float]) -> Finding | None:
    samples = [sample for sample in step.samples if _connecting(sample)]
    seen = sum(sample.total for sample in samples)
    spent = max(seen, opened * (peer.rtt_ms or 0.0) / 1000)
    if spent < max(limit["share_min"] * (step.solo_s or 0.0), limit["request_min_s"]):
        return None
    everything = [*samples, *(sample for sample in reading.by_step.get(step.name, ()) if _connecting(sample))]
    lines = by_place(everything, lambda sample: sample.total)
    place = lines[0][0] if lines else None
    share = share_of(spent, step.solo_s or 0.0, sum(sample.count for sample in step.samples) or solo.requests, "this endpoint alone")
    advice = "make one client or pool when the process starts, and use it in all requests"
    facts = [
        f"{opened:.1f} connections to {peer.host}:{peer.port} ({peer.kind}) are opened per request of {step.name}, alone ({solo.requests} requests)",
        f"connecting takes {ms(spent)} of {ms(step.solo_s or 0.0)} per request",
    ]
    facts += [f"under {at(place, reading.source_root)} in {place.function}()"] if place else []
    won = spent * step.rate_per_s
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY if seen >= limit["share_min"] * (step.solo_s or 0.0) else Confidence.POSSIBLE,
        title=f"{step.name} opens {opened:.1f} connections per request, {percent(spent / (step.solo_s or spent))} of its time",
        place=place_of(place).with_(peer=f"{peer.host}:{peer.port}"),
        steps=(step.name,),
        share=share,
        win_back_s=gain(won, step.rate_per_s, share, "this endpoint alone"),
        win_back_per_s=won,
        evidence=tuple(facts),
        hypothesis="nothing keeps the connection for the next request",
        disproof="the number of connections opened does not grow with the requests",
        fix=where(place, reading.source_root) + advice,
        prevention="watch TIME_WAIT sockets and connections per second of the database",
        proposals=code_change("keep the connection", place, advice),
    )
