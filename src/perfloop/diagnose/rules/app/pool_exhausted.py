"""Requests wait for a free connection of a pool.

What it finds
    Under load, requests queue for a connection (database, HTTP client or a pool of the service's own), because all of them are taken.

Why it costs you
    The queue grows with the load while database and CPU are idle, and every endpoint that needs a connection gets slow or fails with a timeout.

How it decides
    Under load, threads wait inside a pool for at least ``share_min`` of their endpoints' time and ``request_min_s`` per request, and sent alone they
    hardly do. For asynchronous services, whose waits are on no stack: nearly all sessions of the service (``held_min``) are in use, mostly idle inside a transaction,
    while requests take at least ``slower_min`` times as long as alone and the CPU is not used up. What the holders do meanwhile is the sub-cause: a
    connection held across a call to another service, a lock or a pause is named with its line.

What would disprove it
    With more connections, or with connections given back before the call, the wait stays the same.

How to fix
    Give the connection back before doing something else; then size the pool to what the database can run at once.

Sources
    Little's law; SQLAlchemy documentation, "Connection Pooling"; HikariCP wiki, "About Pool Sizing".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perfloop.diagnose.finish import at, conclude, gain, ms, percent, place_of, share_of
from perfloop.diagnose.frames import Doing
from perfloop.diagnose.holders import Holders, holders_of
from perfloop.diagnose.reading import Reading, Sample, by_place
from perfloop.model.base import Estimate
from perfloop.model.evidence import Evidence, Frame, PostgresObservation
from perfloop.model.finding import Confidence, Finding, Proposal, RuleResult

ID = "pool-exhausted"
NEEDS = ("window",)
THRESHOLDS = {"share_min": 0.2, "request_min_s": 0.005, "alone_max": 0.5, "held_min": 0.85, "slower_min": 2.0, "cores_max": 0.8}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge waits inside pools; where no stack can show them, the sessions of the database."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    finding = _seen_waiting(reading, limit) or _all_held(reading, limit)
    clear = f"no request waits {ms(limit['request_min_s'])} and {percent(limit['share_min'])} of its time for a connection"
    return conclude(ID, evidence, [finding] if finding else [], clear)


def _seen_waiting(reading: Reading, limit: Mapping[str, float]) -> Finding | None:
    waiting = [sample for sample in reading.loaded if sample.waits_for is Doing.POOL and sample.wait > 0]
    waited = sum(sample.wait for sample in waiting)
    steps = [name for name, part in reading.steps_of(waiting).items() if part >= 0.1 * waited]
    rate = sum(reading.steps[name].rate_per_s for name in steps)
    whole = sum(reading.loaded_time(name) for name in steps)
    if not waiting or rate <= 0 or waited / rate < limit["request_min_s"] or waited < limit["share_min"] * whole:
        return None
    alone = sum(reading.steps[name].alone(Doing.POOL) * reading.steps[name].rate_per_s for name in steps)
    if alone > limit["alone_max"] * waited:
        return None
    count = sum(sample.count for sample in waiting)
    share = share_of(waited, whole, count / max(waited / whole, 1e-9), "stacks under load")
    lines = by_place(waiting, lambda sample: sample.wait)
    facts = [
        f"requests of {', '.join(steps)} wait {ms(waited / rate)} each for a connection under load ({count:.0f} samples)",
        f"that is {percent(waited / whole)} of their time; sent alone they wait {ms(alone / rate)}",
    ]
    return _finding(reading, steps, waited, rate, share, facts, lines[0][0] if lines else None, _library(waiting), limit)


def _all_held(reading: Reading, limit: Mapping[str, float]) -> Finding | None:
    """An asynchronous service: its queue for connections is on no stack, but its sessions show that all are taken."""
    if not any(sample.on_loop for sample in reading.loaded) and reading.loaded:
        return None
    for database in reading.evidence.postgres:
        held = database.sessions_active_mean + database.sessions_idle_in_transaction_mean
        steps = [step for step in reading.steps.values() if step.solo_s and step.loaded_s and step.trips(frozenset({"postgresql"})) >= 0.5]
        slow = [step for step in steps if (step.loaded_s or 0.0) >= limit["slower_min"] * (step.solo_s or 0.0)]
        rate = sum(step.rate_per_s for step in slow)
        excess = sum(step.rate_per_s * ((step.loaded_s or 0.0) - (step.solo_s or 0.0)) for step in slow)
        if database.sessions_max < 2 or held < limit["held_min"] * database.sessions_max or rate <= 0 or excess / rate < limit["request_min_s"]:
            continue
        if (reading.cores_used or 0.0) > limit["cores_max"]:
            continue
        whole = sum(step.rate_per_s * (step.loaded_s or 0.0) for step in slow)
        share = share_of(excess, whole, database.samples, "sampled sessions")
        facts = [
            f"{held:.1f} of {database.sessions_max} sessions of the service are in use at any moment, {percent(database.sessions_idle_in_transaction_mean / held)} of them idle in a transaction",
            f"requests take {ms(whole / rate)} under load and {ms((whole - excess) / rate)} alone",
        ]
        names = [step.name for step in sorted(slow, key=lambda step: -(step.loaded_s or 0.0))]
        return _finding(reading, names, excess, rate, share, facts, None, "", limit)
    return None


def _finding(
    reading: Reading,
    steps: Sequence[str],
    waited: float,
    rate: float,
    share: Estimate,
    facts: list[str],
    waits_at: Frame | None,
    library: str,
    limit: Mapping[str, float],
) -> Finding:
    root = reading.source_root
    holders = holders_of(reading, steps)
    elsewhere = holders.elsewhere
    place = elsewhere or waits_at
    if waits_at:
        facts.append(f"they wait under {at(waits_at, root)} in {waits_at.function}()" + (f", in {library}" if library else ""))
    facts += _about_holders(reading, holders)
    likely = bool(waits_at) or holders.idle_in_transaction >= 0.5
    advice = f"give the connection back before {at(elsewhere, root)}" if elsewhere else "give connections back sooner, or allow more of them"
    code = {"file": place.file if place else "", "line": place.line if place else 0, "function": place.function if place else "", "advice": advice}
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY if likely else Confidence.POSSIBLE,
        title="requests wait for a connection" + (f": it is held while waiting for the {holders.mostly.value}" if elsewhere else ""),
        place=place_of(place),
        steps=tuple(steps),
        share=share,
        win_back_s=gain(waited, rate, share, share.source),
        win_back_per_s=waited,
        evidence=tuple(facts),
        hypothesis="all connections of the pool are taken, most by requests that do something else meanwhile"
        if elsewhere
        else "all connections of the pool are taken",
        disproof="with more connections the wait stays the same",
        fix=advice + (f" ({percent(holders.share)} of the time in which connections are held); then size the pool" if elsewhere else ""),
        prevention="alert on pool wait time; no calls to other systems while a connection is held",
        proposals=(
            Proposal(kind="app-setting", title="a larger pool", params={"answers": ID, "direction": "increase"}),
            Proposal(kind="code", title="give the connection back before calling out", params=code),
        ),
    )


def _about_holders(reading: Reading, holders: Holders) -> list[str]:
    facts = []
    if holders.elsewhere:
        facts.append(
            f"{percent(holders.share)} of the time of those that go on is {holders.mostly.value} at {at(holders.elsewhere, reading.source_root)}, in code that also uses the database"
        )
    return facts + [_sessions(database) for database in reading.evidence.postgres]


def _sessions(database: PostgresObservation) -> str:
    return (
        f"PostgreSQL sees {database.sessions_max} sessions of the service at most: {database.sessions_active_mean:.1f} active and "
        f"{database.sessions_idle_in_transaction_mean:.1f} idle in a transaction on average"
    )


def _library(samples: Sequence[Sample]) -> str:
    for sample in samples:
        for frame in sample.beneath:
            for name in ("sqlalchemy", "psycopg_pool", "psycopg2", "redis", "urllib3", "httpcore", "asyncpg", "dbutils", "pymongo"):
                if f"/{name}/" in frame.file:
                    return name
    return ""
