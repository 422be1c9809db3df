"""Requests wait until data is safely on the disk.

What it finds
    Endpoints whose threads wait in ``fsync`` (or the like), and databases whose commits wait for the write-ahead log to be flushed.

Why it costs you
    A flush takes the disk a millisecond to tens of them, whatever little was written, and one file's flushes come one after another.

How it decides
    Alone, the endpoint waits at a line that flushes for at least ``share_min`` of its time and ``request_min_s`` per request; or threads were seen
    in that call as much, under load; or at least ``database_min`` of the sampled time of the database's sessions waits for the log's flush.

What would disprove it
    On a file system in memory the endpoint takes as long.

How to fix
    Flush once for many writes (a batch, group commit), flush in the background where a lost second is acceptable (``synchronous_commit = off``), or a disk with a
    protected write cache.

Sources
    PostgreSQL documentation, "Asynchronous Commit"; Gregg, "Systems Performance" (synchronous writes).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from perfloop.diagnose.finish import at, code_change, conclude, gain, ms, percent, place_of, share_of, where
from perfloop.diagnose.reading import Reading, Sample, StepView, by_place
from perfloop.model.evidence import Evidence, PostgresObservation
from perfloop.model.finding import Confidence, Finding, RuleResult

ID = "fsync-bound"
NEEDS = ("solo", "window")
THRESHOLDS = {"share_min": 0.3, "request_min_s": 0.001, "database_min": 0.4}

_FLUSHES = re.compile(r"\b(fsync|fdatasync|msync|syncfs|sync_file_range)\(|\bos\.sync\(")
_WAL = ("IO:WALSync", "IO:WalSync", "IO:WALWrite", "IO:WalWrite", "LWLock:WALWrite", "IPC:SyncRep")


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge every endpoint alone, then the database."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    found: list[Finding] = []
    for step in reading.steps.values():
        samples = [sample for sample in step.samples if sample.place and not sample.beneath and _FLUSHES.search(reading.code.text(sample.place))]
        waited = sum(sample.total for sample in samples)
        if step.solo_s and waited >= max(limit["share_min"] * step.solo_s, limit["request_min_s"]):
            found.append(_in_service(reading, step, samples, waited))
    found += [finding for database in evidence.postgres if (finding := _in_database(reading, database, limit))]
    found.sort(key=lambda finding: -finding.win_back_per_s)
    calls = sum(thread.samples for one in evidence.waits for thread in one.threads if thread.syscall in ("fsync", "fdatasync", "sync", "syncfs"))
    return conclude(ID, evidence, found, f"no endpoint waits long for data to be on the disk; threads were seen in fsync {calls} times under load")


def _in_service(reading: Reading, step: StepView, samples: Sequence[Sample], waited: float) -> Finding:
    place = by_place(samples, lambda sample: sample.total)[0][0]
    share = share_of(waited, step.solo_s or 0.0, sum(sample.count for sample in step.samples), "this endpoint alone")
    files = sorted({thread.peer for one in reading.evidence.waits for thread in one.threads if thread.syscall in ("fsync", "fdatasync") and thread.peer})
    advice = "flush once for many writes, or in the background where a lost second is acceptable"
    won = waited * step.rate_per_s
    facts = [f"{step.name} waits {ms(waited)} of {ms(step.solo_s or 0.0)} per request for data to be on the disk, alone ({step.requests} requests)"]
    facts += [f"at {at(place, reading.source_root)} in {place.function}(): {reading.code.text(place)}"]
    facts += [f"seen under load: fsync of {', '.join(files[:3])}"] if files else []
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY,
        title=f"{step.name} waits {ms(waited)} per request for data to be on the disk",
        place=place_of(place),
        steps=(step.name,),
        share=share,
        win_back_s=gain(won, step.rate_per_s, share, "this endpoint alone"),
        win_back_per_s=won,
        evidence=tuple(facts),
        hypothesis="each write waits for its own flush",
        disproof="on a file system in memory the endpoint takes as long",
        fix=where(place, reading.source_root) + advice,
        prevention="count flushes per request in performance tests",
        proposals=code_change("flush less often", place, advice),
    )


def _in_database(reading: Reading, database: PostgresObservation, limit: Mapping[str, float]) -> Finding | None:
    whole = sum(query.active_samples for query in database.queries)
    flushing = sum(count for query in database.queries for wait, count in query.waits.items() if wait in _WAL)
    rate = reading.rate_per_s
    spent = flushing / max(1, database.samples)
    if whole < 10 or flushing < limit["database_min"] * whole or rate <= 0 or spent / rate < limit["request_min_s"]:
        return None
    share = share_of(flushing, whole, whole, "sampled sessions")
    advice = "commit once for many writes; synchronous_commit = off where losing the last moment is acceptable; a disk with a protected write cache"
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY,
        title=f"commits wait for the write-ahead log: {percent(share.value)} of the database's time",
        steps=tuple(reading.steps),
        share=share,
        win_back_s=gain(spent, rate, share, "sampled sessions"),
        win_back_per_s=spent,
        evidence=(f"{flushing} of {whole} active samples wait for the log's flush", f"{database.commits} commits in {database.window_s:.0f} s"),
        hypothesis="each small transaction waits for its own flush",
        disproof="with synchronous_commit off writes take as long",
        fix=advice,
        prevention="watch commits per request and the time of a flush (pg_test_fsync)",
        actor="database administrator",
        proposals=code_change("flush the log less often", None, advice),
    )
