"""Connections wait to be accepted, and are turned away when the queue is full.

What it finds
    Services that do not accept connections as fast as they come: the kernel's queue in front of them fills, and overflows.

Why it costs you
    A connection that is turned away is tried again after one second, then three, then seven: users see jumps of whole seconds that no log of yours shows.

How it decides
    In the window listen queues of this machine overflowed at least ``overflow_min`` times; or the service's own was seen filled to at least ``full_min`` of
    its bound. The counter is the whole machine's: likely only where the service's own queue was seen full too, or could not be looked at.

What would disprove it
    No connection takes a second longer than others; the queue is never seen filled.

How to fix
    Accept faster (an event loop that is not blocked, more workers or threads), keep connections open, and a larger backlog (with ``net.core.somaxconn``).

Sources
    listen(2), tcp(7); Linux ``nstat`` counters TcpExtListenOverflows and TcpExtListenDrops.
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import code_change, conclude, gain
from perfloop.diagnose.reading import Reading
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, RuleResult

ID = "accept-queue-full"
NEEDS = ("host", "window")
THRESHOLDS = {"overflow_min": 5.0, "full_min": 0.9}

RETRY_S = 1.0  # the first retransmission of a SYN


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge the machine's overflows and the service's own queues."""
    limit = {**THRESHOLDS, **thresholds}
    reading, host = Reading(evidence), evidence.host
    assert host is not None  # NEEDS
    queues = evidence.sockets.listening if evidence.sockets else ()
    longest = max(queues, key=lambda queue: queue.longest / max(1, queue.bound), default=None)
    full = longest is not None and longest.bound > 0 and longest.longest >= limit["full_min"] * longest.bound
    clear = f"{host.listen_overflows} connections were turned away in {host.window_s:.0f} s"
    if longest is not None:
        clear += f", and at most {longest.longest} of {longest.bound} waited to be accepted at port {longest.port}"
    if host.listen_overflows < limit["overflow_min"] and not full:
        return conclude(ID, evidence, [], clear)
    won = host.listen_overflows * RETRY_S / max(host.window_s, 1e-9)
    advice = "accept faster (more workers, an event loop that is not blocked), keep connections open, then a larger backlog with net.core.somaxconn"
    finding = Finding(
        rule=ID,
        confidence=Confidence.LIKELY if host.listen_overflows >= limit["overflow_min"] and (full or longest is None) else Confidence.POSSIBLE,
        title="the listen queue overflows" if host.listen_overflows else "the listen queue is full",
        steps=tuple(reading.steps),
        win_back_s=gain(won, reading.rate_per_s, None, "overflows, one second each"),
        win_back_per_s=won,
        evidence=(clear,),
        hypothesis="connections come faster than they are accepted",
        disproof="no connection takes a second longer than others",
        fix=advice,
        prevention="alert on TcpExtListenOverflows",
        actor="SRE",
        proposals=code_change("accept faster, or a larger backlog", None, advice),
    )
    return conclude(ID, evidence, [finding], clear)
