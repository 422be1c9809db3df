"""What the rules about other engines share: one finding from a few facts."""

from __future__ import annotations

from perfloop.model.base import Estimate
from perfloop.model.finding import Confidence, Finding, Place, Proposal


def trouble(
    rule: str,
    title: str,
    facts: tuple[str, ...],
    *,
    fix: str,
    disproof: str,
    weight: float,
    peer: str,
    prevention: str = "",
    confidence: Confidence = Confidence.LIKELY,
    actor: str = "database administrator",
    proposals: tuple[Proposal, ...] = (),
    setting: str = "",
    query: str = "",
    rate_per_s: float = 0.0,
) -> Finding:
    """``weight``: seconds of waiting or work that it costs each second, the rank among findings of one engine."""
    per_request = Estimate(value=weight / rate_per_s, unit="s", source="the server's own counters") if rate_per_s > 0 else None
    return Finding(
        rule=rule,
        confidence=confidence,
        title=title,
        place=Place(peer=peer, setting=setting, query=query),
        win_back_s=per_request,
        win_back_per_s=weight,
        evidence=facts,
        disproof=disproof,
        fix=fix,
        prevention=prevention,
        actor=actor,
        proposals=proposals,
    )
