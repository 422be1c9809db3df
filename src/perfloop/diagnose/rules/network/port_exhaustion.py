"""Local ports for connections to a peer are running out.

What it finds
    Services that open and close so many connections to one address that the ports left in TIME_WAIT come near to all there are.

Why it costs you
    When no port is left, each new connection fails at once (EADDRNOTAVAIL), for a minute at a time.

How it decides
    At the end of the window at least ``used_min`` of the ports in ``net.ipv4.ip_local_port_range`` are in use or in TIME_WAIT to one peer; or at the present rate
    of new connections they will be within a minute (``full_min``). Likely from ``likely_used`` on.

What would disprove it
    The connections are closed by the peer, and rest there.

How to fix
    Keep connections open (``no-keep-alive``); then ``net.ipv4.tcp_tw_reuse = 1`` and a wider range.

Sources
    RFC 9293 (TIME-WAIT); Linux kernel documentation, ip-sysctl.
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import code_change, conclude, percent
from perfloop.diagnose.reading import Reading
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, Place, RuleResult

ID = "port-exhaustion"
NEEDS = ("host", "sockets", "window")
THRESHOLDS = {"used_min": 0.5, "likely_used": 0.8, "full_min": 1.0}

TIME_WAIT_S = 60.0


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge the peer to which most ports are taken."""
    limit = {**THRESHOLDS, **thresholds}
    reading, host, sockets = Reading(evidence), evidence.host, evidence.sockets
    assert host is not None  # NEEDS
    assert sockets is not None  # NEEDS
    if host.ports_range is None:
        return conclude(ID, evidence, [], "the range of local ports was not read")
    ports = host.ports_range[1] - host.ports_range[0] + 1
    worst = max(sockets.peers, key=lambda peer: (peer.time_wait or 0) + peer.connections, default=None)
    taken = (worst.time_wait or 0) + worst.connections if worst else 0
    coming = (worst.opened or 0) / max(sockets.window_s, 1e-9) * TIME_WAIT_S if worst else 0.0
    clear = f"at most {taken:,} of {ports:,} local ports are taken by connections to one peer"
    if worst is None or (taken < limit["used_min"] * ports and coming < limit["full_min"] * ports):
        return conclude(ID, evidence, [], clear)
    name = f"{worst.host}:{worst.port}"
    advice = "keep connections open (a pool or one client for the process), then net.ipv4.tcp_tw_reuse and a wider range of ports"
    finding = Finding(
        rule=ID,
        confidence=Confidence.LIKELY if taken >= limit["likely_used"] * ports else Confidence.POSSIBLE,
        title=f"{percent(taken / ports)} of the local ports are taken by connections to {name}",
        place=Place(peer=name),
        steps=tuple(reading.steps),
        win_back_per_s=0.0,
        evidence=(
            clear,
            f"{worst.opened or 0:,} connections to {name} were opened in {sockets.window_s:.0f} s: {coming:,.0f} ports within the minute for which each rests",
        ),
        hypothesis="each closed connection keeps its port for a minute",
        disproof="the peer closes the connections, so that they rest there",
        fix=advice,
        prevention="alert on sockets in TIME_WAIT",
        actor="SRE",
        proposals=code_change("keep connections open", None, advice),
    )
    return conclude(ID, evidence, [finding], clear)
