"""All threads that serve requests are taken, and requests wait for one to be free.

What it finds
    Thread pools (of a server, or of an executor that coroutines hand work to) whose threads are all busy while more requests wait outside.

Why it costs you
    A request that would take 90 ms takes a second, because it is not begun; CPU and database look idle, and even the cheapest request waits.

How it decides
    Under load every thread of the pool has a request for at least ``busy_min`` of the time, mostly waiting for others (``away_min``), not computing. By
    Little's law more requests are under way than threads have: the difference, which waits outside, is at least ``share_min`` of the requests' time and
    ``request_min_s`` per request. A server with one thread per process is ``worker-count-wrong``.

What would disprove it
    With twice the threads requests wait as long.

How to fix
    Shorten what the threads wait for, or more threads; for long waits an asynchronous handler, and a pool of its own for slow calls (a bulkhead).

Sources
    Little's law; Nygard, "Release It!" (blocked threads, bulkheads); Gregg, the TSA method (thread states).
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import at, code_change, conclude, gain, ms, percent, place_of, share_of
from perfloop.diagnose.occupancy import Group, groups
from perfloop.diagnose.reading import Reading, by_place
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Experiment, Finding, Proposal, RuleResult

ID = "thread-pool-exhausted"
NEEDS = ("stacks", "window", "solo")
THRESHOLDS = {"busy_min": 0.8, "away_min": 0.5, "share_min": 0.2, "request_min_s": 0.01}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge every group of threads that serve requests."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    seen = groups(reading)
    found = [_finding(reading, group) for group in seen if group.threads > group.processes and exhausted(reading, group, limit)]
    fullest = f"the fullest pool has {seen[0].threads} threads, {percent(seen[0].busy)} busy" if seen else "no thread that serves requests was seen busy"
    return conclude(ID, evidence, found, fullest)


def exhausted(reading: Reading, group: Group, limit: Mapping[str, float]) -> bool:
    """All threads taken by requests that wait for others, and more requests waiting outside."""
    rate = sum(reading.steps[name].rate_per_s for name in group.steps)
    if group.busy < limit["busy_min"] or group.away < limit["away_min"] or rate <= 0:
        return False
    return group.queued >= limit["share_min"] * group.whole and group.queued / rate >= limit["request_min_s"]


def about(reading: Reading, group: Group) -> list[str]:
    """The facts about a full group."""
    rate = sum(reading.steps[name].rate_per_s for name in group.steps)
    lines = by_place(group.samples, lambda sample: sample.wait)
    facts = [
        f"{group.threads} threads in {group.processes} processes have a request for {percent(group.busy)} of the time, {percent(group.away)} of that waiting for others",
        f"{group.whole:.1f} requests of {', '.join(group.steps)} are under way at any moment, {group.queued:.1f} of them outside of these threads: {ms(group.queued / rate)} per request",
    ]
    return facts + [f"the threads wait mostly at {at(lines[0][0], reading.source_root)} in {lines[0][0].function}()" for _ in lines[:1]]


def _finding(reading: Reading, group: Group) -> Finding:
    lines = by_place(group.samples, lambda sample: sample.wait)
    place = lines[0][0] if lines else None
    rate = sum(reading.steps[name].rate_per_s for name in group.steps)
    share = share_of(group.queued, group.whole, sum(sample.count for sample in group.samples), "latencies and stacks under load")
    advice = "shorten what these threads wait for, allow more of them, or do the waiting asynchronously; slow calls get a pool of their own"
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY,
        title=f"all {group.threads} threads are taken, and requests wait {ms(group.queued / rate)} for one",
        place=place_of(place),
        steps=group.steps,
        share=share,
        win_back_s=gain(group.queued, rate, share, share.source),
        win_back_per_s=group.queued,
        evidence=tuple(about(reading, group)),
        hypothesis="requests are not begun because no thread is free",
        disproof="with twice the threads requests wait as long",
        experiment=Experiment(
            kind="setting-double", params={"subject": group.name, "answers": ID}, refutes="if requests wait as long with twice the threads, this is not it"
        ),
        fix=advice,
        prevention="alert on the queue in front of the threads, not only on CPU",
        actor="devops engineer",
        proposals=(
            Proposal(kind="app-setting", title="more threads", params={"answers": ID, "direction": "increase"}),
            *code_change("wait less in threads", place, advice),
        ),
    )
