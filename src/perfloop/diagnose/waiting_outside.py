"""Requests that wait outside because all who serve them are taken: what the rules about too few threads and too few workers have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perfloop.diagnose.finish import at, code_change, gain, ms, percent, place_of, share_of
from perfloop.diagnose.occupancy import Group
from perfloop.diagnose.reading import Reading, by_place
from perfloop.model.finding import Confidence, Experiment, Finding, Proposal

THRESHOLDS = {"busy_min": 0.8, "away_min": 0.5, "share_min": 0.2, "request_min_s": 0.01}


@dataclass(frozen=True)
class Servers:
    """The words of one such rule: who serves (``threads``, ``workers``), and what would help."""

    rule: str
    who: str
    title: str
    hypothesis: str
    advice: str
    prevention: str
    change: str


def exhausted(reading: Reading, group: Group, limit: Mapping[str, float]) -> bool:
    """All taken by requests that wait for others, and more requests waiting outside."""
    rate = sum(reading.steps[name].rate_per_s for name in group.steps)
    if group.busy < limit["busy_min"] or group.away < limit["away_min"] or rate <= 0:
        return False
    return group.queued >= limit["share_min"] * group.whole and group.queued / rate >= limit["request_min_s"]


def too_few(reading: Reading, group: Group, words: Servers, subject: str) -> Finding:
    """The finding; ``words.title`` has ``{wait}`` for what a request waits."""
    lines = by_place(group.samples, lambda sample: sample.wait)
    place = lines[0][0] if lines else None
    rate = sum(reading.steps[name].rate_per_s for name in group.steps)
    share = share_of(group.queued, group.whole, sum(sample.count for sample in group.samples), "latencies and stacks under load")
    wait = ms(group.queued / rate)
    facts = [
        f"{group.threads} threads in {group.processes} processes have a request for {percent(group.busy)} of the time, {percent(group.away)} of that waiting for others",
        f"{group.whole:.1f} requests of {', '.join(group.steps)} are under way at any moment, {group.queued:.1f} of them outside of these threads: {wait} per request",
    ]
    facts += [f"the threads wait mostly at {at(place, reading.source_root)} in {place.function}()"] if place else []
    return Finding(
        rule=words.rule,
        confidence=Confidence.LIKELY,
        title=words.title.format(wait=wait),
        place=place_of(place),
        steps=group.steps,
        share=share,
        win_back_s=gain(group.queued, rate, share, share.source),
        win_back_per_s=group.queued,
        evidence=tuple(facts),
        hypothesis=words.hypothesis,
        disproof=f"with twice the {words.who} requests wait as long",
        experiment=Experiment(
            kind="setting-double",
            params={"subject": subject, "answers": words.rule},
            refutes=f"if requests wait as long with twice the {words.who}, this is not it",
        ),
        fix=words.advice,
        prevention=words.prevention,
        actor="devops engineer",
        proposals=(
            Proposal(kind="app-setting", title=f"more {words.who}", params={"answers": words.rule, "direction": "increase"}),
            *code_change(words.change, place, words.advice),
        ),
    )
