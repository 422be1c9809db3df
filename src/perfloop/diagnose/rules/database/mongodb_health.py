"""MongoDB operations read whole collections, sort in memory or on disk, or wait for locks; indexes lie unused.

What it finds
    Operations without an index (COLLSCAN) or that examine far more documents than they return, with the index that the rule equality, sort, range gives;
    sorts that use the disk; operations that wait for a lock; indexes that no operation used since the server started.

Why it costs you
    Documents are read and thrown away: the time grows with the collection. Each index that nobody reads is paid for by every write.

How it decides
    From documents of system.profile or the server's log, $indexStats and currentOp. An operation counts that took ``slow_ms`` or more and examined at least
    ``ratio_min`` documents for each that it returned, or that scanned the collection. Untested against a server: there was none to test with.

What would disprove it
    explain("executionStats") with the index shows as many documents examined.

How to fix
    Create the index; hide an unused one (collMod hidden: true) for a while before it is dropped.

Sources
    MongoDB manual: "Database Profiler Output", "The ESR (Equality, Sort, Range) Rule", "$indexStats", "Hidden Indexes".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from perfloop.diagnose.engines import trouble
from perfloop.diagnose.finish import conclude
from perfloop.model.engines import MongoObservation
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, Proposal, RuleResult

ID = "mongodb-health"
NEEDS = ("mongodb",)
THRESHOLDS = {"slow_ms": 20.0, "ratio_min": 20.0}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge what the documents tell."""
    limit = {**THRESHOLDS, **thresholds}
    found = sorted((finding for seen in evidence.mongodb for finding in _judge(seen, limit)), key=lambda finding: -finding.win_back_per_s)
    return conclude(ID, evidence, found, f"{sum(one.count for seen in evidence.mongodb for one in seen.operations):,} operations, indexes and locks")


def _judge(seen: MongoObservation, limit: Mapping[str, float]) -> Iterator[Finding]:
    peer = f"mongodb ({seen.source})"
    whole = max(1.0, sum(one.total_ms for one in seen.operations))
    for one in seen.operations[:20]:
        ratio = one.rows_examined / max(1, one.rows_sent)
        if one.worst_ms < limit["slow_ms"] or not (one.no_index or ratio >= limit["ratio_min"]):
            continue
        collection = one.text.split(" ", 1)[0].partition(".")[2]
        index = next((text for text in seen.suggestions if text.startswith(f"db.{collection}.")), "")
        facts = (
            f"{one.count:,} operations, {one.total_ms:,.0f} ms in all, up to {one.worst_ms:,.0f} ms",
            f"{one.rows_examined:,} documents examined, {one.rows_sent:,} returned",
        )
        yield trouble("mongodb-scan" if one.no_index else "mongodb-index-unselective", f"{one.text}: {ratio:,.0f} documents are read for each one returned", facts, fix=index or "an index that begins with the fields compared by equality", disproof="explain with the index examines as many documents", weight=one.total_ms / whole, peer=peer, confidence=Confidence.POSSIBLE, query=one.text, proposals=(Proposal(kind="code", title=index or "an index"),))  # fmt: skip
    spilled = [one for one in seen.operations if one.temp_on_disk]
    if spilled:
        yield trouble("mongodb-sort-on-disk", f"{spilled[0].text} sorts on disk", (f"{len(spilled)} kinds of operation used the disk",), fix="an index in the wanted order", disproof="with it the disk is used as much", weight=0.3, peer=peer, confidence=Confidence.POSSIBLE, query=spilled[0].text)  # fmt: skip
    if seen.waiting_for_lock:
        yield trouble("mongodb-lock-wait", f"{seen.waiting_for_lock} operations wait for a lock", ("currentOp: waitingForLock",), fix="look at the longest operation that holds one: db.currentOp({active: true})", disproof="it is gone at the next look", weight=0.5, peer=peer, confidence=Confidence.POSSIBLE)  # fmt: skip
    if seen.unused_indexes:
        yield trouble("mongodb-unused-index", f"{len(seen.unused_indexes)} indexes were not used since the server started", seen.unused_indexes[:5], fix="hide them (collMod … hidden: true), watch, then drop; look at all members of the replica set first", disproof="a monthly job uses them", weight=0.001, peer=peer, confidence=Confidence.POSSIBLE)  # fmt: skip
