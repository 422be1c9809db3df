"""Packets are lost on the way, and sent again after a pause.

What it finds
    TCP segments of this machine that had to be sent again while it was under load.

Why it costs you
    A lost segment costs at least 200 ms, however fast the service is: it shows in the p99 of everything that crosses that network.

How it decides
    In the window at least ``count_min`` segments were sent again, and they are at least ``share_min`` of the requests and round trips of the service. The
    counters are the whole machine's, and other programs count into them: so loss stays a suspicion, and the time that it would win back is not told.

What would disprove it
    No latency is near the retransmission timeout (200 ms, then doubling).

How to fix
    Look for loss on the path (cables, virtual switches, full queues), and keep connections open.

Sources
    RFC 6298 (retransmission timer); Gregg, "Systems Performance" (network); Linux ``nstat`` counter TcpRetransSegs.
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import code_change, conclude, percent
from perfloop.diagnose.reading import Reading
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, RuleResult

ID = "retransmits"
NEEDS = ("host", "window")
THRESHOLDS = {"count_min": 20.0, "share_min": 0.01}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge the machine's TCP counters over the window."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    host = evidence.host
    assert host is not None  # NEEDS
    trips = sum(peer.round_trips for peer in evidence.sockets.peers) if evidence.sockets else 0
    sent = trips + reading.rate_per_s * host.window_s * 2
    lost = host.tcp_retransmits
    share = lost / sent if sent > 0 else 0.0
    clear = f"{lost} segments sent again in {host.window_s:.0f} s"
    if lost < limit["count_min"] or share < limit["share_min"]:
        return conclude(ID, evidence, [], clear)
    finding = Finding(
        rule=ID,
        confidence=Confidence.POSSIBLE,
        title=f"{percent(share)} of the segments are sent again",
        win_back_per_s=0.0,
        evidence=(clear, f"about {sent:.0f} segments were sent by the service in that time"),
        hypothesis="segments are lost on the way",
        disproof="no latency is near the retransmission timeout of 200 ms",
        fix="look for loss on the path: full queues, virtual switches, cables",
        prevention="alert on TcpRetransSegs per segment sent",
        actor="SRE",
        proposals=code_change("find the loss", None, "ss -ti; nstat -az TcpRetransSegs"),
    )
    return conclude(ID, evidence, [finding], clear)
