"""Packets are lost on the way, and sent again after a pause.

What it finds
    TCP segments of this machine that had to be sent again while it was under load, and connections that the listen queue turned away.

Why it costs you
    A lost segment costs at least 200 ms, however fast the service is: it shows in the p99 of everything that crosses that network.

How it decides
    In the window at least ``count_min`` segments were sent again, and they are at least ``share_min`` of the requests and round trips of the service. Or
    the listen queue overflowed at least ``overflow_min`` times. The counters are the whole machine's, and other programs count into them: so loss stays
    a suspicion, and the time that it would win back is not told.

What would disprove it
    No latency is near the retransmission timeout (200 ms, then doubling).

How to fix
    Look for loss on the path (cables, virtual switches, full queues), a larger accept backlog for overflows, and connections that are kept open.

Sources
    RFC 6298 (retransmission timer); Gregg, "Systems Performance" (network); Linux ``nstat`` counters TcpRetransSegs and TcpExtListenOverflows.
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import conclude, gain, percent
from perfloop.diagnose.reading import Reading
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, Proposal, RuleResult

ID = "retransmits"
NEEDS = ("host", "window")
THRESHOLDS = {"count_min": 20.0, "share_min": 0.01, "overflow_min": 5.0}

TIMEOUT_MIN_S = 0.2  # the smallest retransmission timeout of Linux


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge the machine's TCP counters over the window."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    host = evidence.host
    assert host is not None  # NEEDS
    trips = sum(peer.round_trips for peer in evidence.sockets.peers) if evidence.sockets else 0
    sent = trips + reading.rate_per_s * host.window_s * 2
    lost, overflows = host.tcp_retransmits, host.listen_overflows
    share = lost / sent if sent > 0 else 0.0
    clear = f"{lost} segments sent again and {overflows} connections turned away in {host.window_s:.0f} s"
    if overflows < limit["overflow_min"] and (lost < limit["count_min"] or share < limit["share_min"]):
        return conclude(ID, evidence, [], clear)
    backlog = overflows >= limit["overflow_min"]
    won = overflows * TIMEOUT_MIN_S / max(host.window_s, 1e-9) if backlog else 0.0
    finding = Finding(
        rule=ID,
        confidence=Confidence.LIKELY if backlog else Confidence.POSSIBLE,
        title="the listen queue overflows" if backlog else f"{percent(share)} of the segments are sent again",
        win_back_s=gain(won, reading.rate_per_s, None, "TCP counters, 200 ms each") if backlog else None,
        win_back_per_s=won,
        evidence=(clear, f"about {sent:.0f} segments were sent by the service in that time"),
        hypothesis="connections are made faster than they are accepted" if backlog else "segments are lost on the way",
        disproof="no latency is near the retransmission timeout of 200 ms",
        fix="a larger listen backlog (and net.core.somaxconn), and keep-alive connections"
        if backlog
        else "look for loss on the path: full queues, virtual switches, cables",
        prevention="alert on TcpRetransSegs per segment sent and on TcpExtListenOverflows",
        actor="SRE",
        proposals=(
            Proposal(
                kind="code",
                title="a larger backlog" if backlog else "find the loss",
                params={"advice": "ss -ltn; nstat -az TcpRetransSegs TcpExtListenOverflows"},
            ),
        ),
    )
    return conclude(ID, evidence, [finding], clear)
