"""Requests wait for one another at a lock.

What it finds
    Threads that queue for a lock in the service, or sessions that queue for a row or table lock in PostgreSQL, under load.

Why it costs you
    Whatever is done under the lock is done by one request at a time, so it bounds the throughput of the whole service, and the queue grows with the load.

How it decides
    Under load, requests wait for a lock at least ``share_min`` of their endpoint's time and ``request_min_s`` per request; sent alone, hardly.
    The place is the line that acquires; the holder is what other threads do at later lines of the same function. In the database: sessions seen waiting
    for locks make up at least ``share_min`` of the sampled time and ``request_min_s`` per request.

What would disprove it
    The wait is there as well when one request is sent at a time.

How to fix
    Do slow work (calls, queries, serialising) before taking the lock or after giving it back; one lock per key instead of one for all; shorter transactions.

Sources
    Smith & Williams, "One-Lane Bridge"; Gregg, "Systems Performance" (lock analysis); PostgreSQL documentation, "Explicit Locking".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perfloop.diagnose.finish import at, conclude, gain, ms, percent, place_of, share_of
from perfloop.diagnose.frames import Doing
from perfloop.diagnose.reading import Reading, Sample, by_place
from perfloop.model.evidence import Evidence, Frame, PostgresObservation
from perfloop.model.finding import Confidence, Finding, Place, Proposal, RuleResult

ID = "lock-contention"
NEEDS = ("window",)
THRESHOLDS = {"share_min": 0.2, "request_min_s": 0.005, "alone_max": 0.5}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge locks of the service by the line that acquires them, then locks of the database."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    found: list[Finding] = []
    waiting = [sample for sample in reading.loaded if sample.waits_for is Doing.LOCK and sample.place and sample.wait > 0]
    functions: dict[tuple[str, str], list[Sample]] = {}
    for sample in waiting:
        if sample.place:
            functions.setdefault((sample.place.file, sample.place.function), []).append(sample)
    for samples in functions.values():
        finding = _in_service(reading, samples, limit)
        if finding:
            found.append(finding)
    found += [finding for database in evidence.postgres if (finding := _in_database(reading, database, limit))]
    found.sort(key=lambda finding: -finding.win_back_per_s)
    return conclude(ID, evidence, found, f"no endpoint waits {ms(limit['request_min_s'])} and {percent(limit['share_min'])} of its time for a lock under load")


def _in_service(reading: Reading, samples: Sequence[Sample], limit: Mapping[str, float]) -> Finding | None:
    waited = sum(sample.wait for sample in samples)
    steps = [name for name, part in reading.steps_of(samples).items() if part >= 0.1 * waited]
    rate = sum(reading.steps[name].rate_per_s for name in steps)
    whole = sum(reading.loaded_time(name) for name in steps)
    if rate <= 0 or waited / rate < limit["request_min_s"] or waited < limit["share_min"] * whole:
        return None
    alone = sum(reading.steps[name].alone(Doing.LOCK) * reading.steps[name].rate_per_s for name in steps)
    if alone > limit["alone_max"] * waited:
        return None
    place = by_place(samples, lambda sample: sample.wait)[0][0]
    holder, held_doing = holder_of(reading, place)
    count = sum(sample.count for sample in samples)
    share = share_of(waited, whole, count / max(waited / whole, 1e-9) if whole else count, "stacks under load")
    facts = [
        f"requests of {', '.join(steps)} wait {ms(waited / rate)} each for the lock at {at(place, reading.source_root)} under load ({count:.0f} samples)",
        f"that is {percent(waited / whole)} of their time; sent alone they wait {ms(alone / rate)}",
    ]
    if holder:
        facts.append(f"meanwhile the holder is at {at(holder, reading.source_root)}, mostly {held_doing.value}")
    advice = "do what is slow outside of the lock" + (f" (line {holder.line})" if holder else "") + ", or lock per key"
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY,
        title=f"requests queue for the lock in {place.function}()",
        place=place_of(place),
        steps=tuple(steps),
        share=share,
        win_back_s=gain(waited, rate, share, "stacks under load"),
        win_back_per_s=waited,
        evidence=tuple(facts),
        hypothesis="one request at a time passes here, and the others queue",
        disproof="a request sent alone waits here as long",
        fix=f"{at(place, reading.source_root)}: {advice}",
        prevention="keep calls to other systems out of locked sections; load-test with concurrent users",
        proposals=(Proposal(kind="code", title="shorten what is done under the lock", params={"file": place.file, "line": place.line, "advice": advice}),),
    )


def holder_of(reading: Reading, place: Frame) -> tuple[Frame | None, Doing]:
    """What others do in the acquiring function while some wait at ``place``: the line there with most time, and what mostly goes on."""
    lines: dict[Frame, float] = {}
    doings: dict[Doing, float] = {}
    for sample in reading.loaded:
        for frame in sample.app:
            if (frame.file, frame.function) == (place.file, place.function) and frame.line != place.line and sample.waits_for is not Doing.LOCK:
                lines[frame] = lines.get(frame, 0.0) + sample.total
                doings[Doing.CPU] = doings.get(Doing.CPU, 0.0) + sample.cpu
                doings[sample.waits_for] = doings.get(sample.waits_for, 0.0) + sample.wait
                break
    if not lines:
        return None, Doing.OTHER
    return max(lines, key=lambda frame: lines[frame]), max(doings, key=lambda doing: doings[doing])


def _in_database(reading: Reading, database: PostgresObservation, limit: Mapping[str, float]) -> Finding | None:
    waiting = sum(lock.samples for lock in database.locks)
    active = sum(query.active_samples for query in database.queries)
    rate = reading.rate_per_s
    busy = waiting / max(1, database.samples)
    if not waiting or rate <= 0 or busy / rate < limit["request_min_s"] or waiting < limit["share_min"] * max(active, waiting):
        return None
    worst = max(database.locks, key=lambda lock: lock.samples)
    share = share_of(waiting, max(active, waiting), max(active, waiting), "sampled sessions")
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY,
        title=f"sessions queue for locks on {worst.relation or 'rows'} in PostgreSQL",
        place=Place(query=worst.waiting, query_id=worst.waiting_query_id),
        steps=tuple(step.name for step in sorted(reading.steps.values(), key=lambda step: -step.alone(Doing.DATABASE))[:1]),
        share=share,
        win_back_s=gain(busy, rate, share, "sampled sessions"),
        win_back_per_s=busy,
        evidence=(
            f"{busy:.1f} sessions wait for a lock at any moment: {waiting} of {active} active session samples",
            f"most often {worst.waiting[:160]} behind {worst.blocking[:160]}",
        ),
        hypothesis="a transaction holds the lock longer than its work needs",
        disproof="no session waits for a lock when requests are sent one at a time",
        fix="commit sooner, take row locks last and in one order, or spread the hot row",
        prevention="no calls to other systems inside a transaction",
        actor="database administrator",
        proposals=(Proposal(kind="code", title="shorten the blocking transaction", params={"query": worst.blocking}),),
    )
