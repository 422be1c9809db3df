"""Which finding is the effect of which: a table of relations, each with the evidence that must hold.

A slow query keeps connections busy, so requests queue for the pool; a function that computes keeps the core busy, so everything else waits. Such an effect is
real, but it goes away with its cause. ``same``: the effect is the cause seen from another side, and is dropped; ``effect``: it stays as ``possible``,
with the cause named; ``after``: both are real, and the cause is ranked first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from perfloop.diagnose.frames import Doing
from perfloop.diagnose.holders import holders_of
from perfloop.diagnose.reading import DATABASE_PEERS, Reading, Sample
from perfloop.diagnose.rules.app.lock_contention import holder_of
from perfloop.model.evidence import Frame
from perfloop.model.finding import Confidence, Finding

Mode = Literal["same", "effect", "after"]
Holds = Callable[[Reading, Finding, Finding], bool]

DATABASE_RULES = ("missing-index", "n-plus-one", "cache-ineffective", "cache-stampede")
COMPUTING_RULES = ("serialization-heavy", "logging-heavy", "gc-pressure", "excessive-allocation")
CPU_RULES = ("superlinear", "cpu-hot-spot", "cache-ineffective", "n-plus-one", *COMPUTING_RULES)
CALLING_RULES = ("n-plus-one-http", "sequential-calls", "retry-storm", "no-keep-alive")
QUEUE_RULES = ("thread-pool-exhausted", "worker-count-wrong")
STARVED_RULES = ("cpu-throttled", "noisy-neighbour")

QUEUE_MIN = 0.25  # of the time that calls take: a queue that costs less is not the first thing to fix


@dataclass(frozen=True)
class Relation:
    """``effect`` is explained by any of ``causes`` where ``holds`` says so; ``why`` is the sentence a user reads."""

    causes: tuple[str, ...]
    effect: str
    mode: Mode
    holds: Holds
    why: str


def _same_function(_: Reading, cause: Finding, effect: Finding) -> bool:
    return bool(cause.place.file) and (cause.place.file, cause.place.function) == (effect.place.file, effect.place.function)


def _behind_cache(reading: Reading, cause: Finding, effect: Finding) -> bool:
    """Most of what the effect is about happens inside the cached function, on an endpoint of both."""
    for name in set(cause.steps) & set(effect.steps):
        samples = reading.steps[name].samples if name in reading.steps else ()
        about = [sample for sample in samples if _about(sample, effect)]
        whole = sum(sample.total for sample in about)
        if whole > 0 and sum(sample.total for sample in about if _inside(reading, sample, cause)) >= 0.5 * whole:
            return True
    return False


def _about(sample: Sample, finding: Finding) -> bool:
    if finding.rule == "missing-index":
        return Doing.DATABASE in (sample.layer, sample.waits_for)
    if not finding.place.file:
        return True
    return any((frame.file, frame.function) == (finding.place.file, finding.place.function) for frame in sample.app)


def _inside(reading: Reading, sample: Sample, cause: Finding) -> bool:
    for frame in sample.app:
        function = reading.code.function(frame.file, frame.line)
        if function is not None and frame.file == cause.place.file and function.node.name == cause.place.function:
            return True
    return False


def _holds_connections(reading: Reading, cause: Finding, effect: Finding) -> bool:
    """Those who hold connections mostly do what the cause is about: its queries, or its computing (which others wait for at the interpreter's lock)."""
    holders = holders_of(reading, effect.steps)
    if not holders.known:
        return bool(set(cause.steps) & set(effect.steps)) and holders.idle_in_transaction < 0.5
    if holders.mostly is Doing.DATABASE:
        return cause.rule in DATABASE_RULES and _dominates(reading, cause, effect)
    if holders.mostly in (Doing.CPU, Doing.OTHER):
        return cause.rule in CPU_RULES
    return False


def _dominates(reading: Reading, cause: Finding, effect: Finding) -> bool:
    """The endpoints of the cause make up most of the database time of the effect's."""
    weights = {name: reading.steps[name].rate_per_s * _database_s(reading, name) for name in effect.steps if name in reading.steps}
    whole = sum(weights.values())
    return whole > 0 and sum(value for name, value in weights.items() if name in cause.steps) >= 0.4 * whole


def _database_s(reading: Reading, name: str) -> float:
    step = reading.steps[name]
    return max(step.alone(Doing.DATABASE), step.waited(DATABASE_PEERS))


def _holds_lock(reading: Reading, cause: Finding, effect: Finding) -> bool:
    """The holder of the lock does what the cause is about; computing explains a queue only where the CPU is nearly used up."""
    if not effect.place.file:
        return cause.rule == "missing-index"
    _, doing = holder_of(reading, _frame(effect))
    if doing is Doing.DATABASE:
        return cause.rule in DATABASE_RULES and bool(set(cause.steps) & set(effect.steps))
    return doing in (Doing.CPU, Doing.OTHER) and cause.rule in CPU_RULES and (reading.cores_used or 0.0) >= 0.7


def _lock_waits_for_pool(reading: Reading, _: Finding, effect: Finding) -> bool:
    return bool(effect.place.file) and holder_of(reading, _frame(effect))[1] is Doing.POOL


def _pool_waits_for_lock(reading: Reading, _: Finding, effect: Finding) -> bool:
    return holders_of(reading, effect.steps).mostly is Doing.LOCK


def _held_across_call(reading: Reading, cause: Finding, effect: Finding) -> bool:
    """Connections or a lock are held across the slow call, and the queue for them is no small part: it grows without bound with the load, the call does not."""
    if not set(cause.steps) & set(effect.steps) or cause.win_back_per_s < QUEUE_MIN * effect.win_back_per_s:
        return False
    if cause.rule == "pool-exhausted":
        return holders_of(reading, cause.steps).mostly is Doing.HTTP
    return bool(cause.place.file) and holder_of(reading, _frame(cause))[1] is Doing.HTTP


def _frame(finding: Finding) -> Frame:
    return Frame(function=finding.place.function, file=finding.place.file, line=finding.place.line)


def _on_loop(reading: Reading, cause: Finding, effect: Finding) -> bool:
    """The effect's place is where the loop is blocked."""
    return _same_function(reading, cause, effect) or (effect.rule == "slow-downstream" and not effect.place.file and effect.steps[:1] == cause.steps[:1])


def _same_steps(_: Reading, cause: Finding, effect: Finding) -> bool:
    return bool(set(cause.steps[:1]) & set(effect.steps))


def _queue_matters(_: Reading, cause: Finding, effect: Finding) -> bool:
    """The queue for threads costs no small part of what the call costs: it grows without bound with the load, the call does not."""
    return bool(set(cause.steps) & set(effect.steps)) and cause.win_back_per_s >= QUEUE_MIN * effect.win_back_per_s


def _starved_more(reading: Reading, cause: Finding, _: Finding) -> bool:
    """Waiting for a core costs more than the service's own computing, which looks longer for it."""
    return cause.win_back_per_s >= (reading.cores_used or 0.0)


def _always(_: Reading, __: Finding, ___: Finding) -> bool:
    return True


RELATIONS: tuple[Relation, ...] = (
    Relation(COMPUTING_RULES, "cpu-hot-spot", "same", _same_function, "it says what the function computes"),
    Relation(COMPUTING_RULES, "superlinear", "same", _same_function, "it says what the function computes"),
    Relation(("superlinear",), "excessive-allocation", "effect", _same_function, "the function's cost grows faster than its input"),
    Relation(("gc-pressure",), "excessive-allocation", "effect", _same_function, "the collector is what the objects cost"),
    Relation(("no-pagination",), "large-payload", "effect", _same_steps, "the list is sent whole"),
    Relation(("no-pagination", "large-payload"), "serialization-heavy", "effect", _same_steps, "so much is sent"),
    Relation(("no-pagination", "large-payload"), "cpu-hot-spot", "effect", _same_steps, "so much is sent"),
    Relation(("no-pagination",), "gc-pressure", "effect", _same_steps, "so many objects are made for the list"),
    Relation(("no-pagination",), "excessive-allocation", "effect", _same_steps, "so much is made for the list"),
    Relation(CALLING_RULES, "slow-downstream", "effect", _same_steps, "it says why the calls take that long together"),
    Relation(("retry-storm",), "n-plus-one-http", "effect", _same_steps, "the call is made again because it failed"),
    Relation(QUEUE_RULES, "slow-downstream", "after", _queue_matters, "the queue for threads costs more than the call"),
    Relation(DATABASE_RULES, "thread-pool-exhausted", "effect", _same_steps, "threads wait that long because of it"),
    Relation(DATABASE_RULES, "worker-count-wrong", "effect", _same_steps, "workers wait that long because of it"),
    Relation(STARVED_RULES, "cpu-saturated", "same", _always, "it says who has the cores"),
    Relation(("gil-bound",), "cpu-saturated", "same", _always, "it says which core is used up"),
    Relation(STARVED_RULES, "cpu-hot-spot", "after", _starved_more, "the service waits for a core longer than it computes"),
    Relation(STARVED_RULES, "serialization-heavy", "after", _starved_more, "the service waits for a core longer than it computes"),
    Relation(STARVED_RULES, "pool-exhausted", "effect", _starved_more, "connections are held for that long because of it"),
    Relation(STARVED_RULES, "lock-contention", "effect", _starved_more, "locks are held for that long because of it"),
    Relation(("cache-stampede",), "missing-index", "effect", _same_steps, "the query runs many times at once instead of once"),
    Relation(("cache-stampede",), "cache-ineffective", "same", _same_function, "it says when the cache does not help"),
    Relation(("superlinear",), "cpu-hot-spot", "same", _same_function, "the function's cost grows faster than its input"),
    Relation(("cache-ineffective",), "cpu-hot-spot", "effect", _behind_cache, "it runs behind a cache that should have spared it"),
    Relation(("cache-ineffective",), "superlinear", "effect", _behind_cache, "it runs behind a cache that should have spared it"),
    Relation(("cache-ineffective",), "n-plus-one", "effect", _behind_cache, "it runs behind a cache that should have spared it"),
    Relation(("cache-ineffective",), "missing-index", "effect", _behind_cache, "the query runs behind a cache that should have spared it"),
    Relation(("cache-ineffective",), "slow-downstream", "effect", _behind_cache, "the call is made behind a cache that should have spared it"),
    Relation(("event-loop-blocked",), "slow-downstream", "effect", _on_loop, "the call blocks the event loop"),
    Relation(("event-loop-blocked",), "lock-contention", "effect", _on_loop, "the lock is waited for on the event loop"),
    Relation(
        (*DATABASE_RULES, *COMPUTING_RULES, "superlinear", "cpu-hot-spot"),
        "pool-exhausted",
        "effect",
        _holds_connections,
        "connections are held for that long because of it",
    ),
    Relation(
        (*DATABASE_RULES, *COMPUTING_RULES, "superlinear", "cpu-hot-spot"),
        "lock-contention",
        "effect",
        _holds_lock,
        "the lock is held for that long because of it",
    ),
    Relation(("pool-exhausted",), "lock-contention", "effect", _lock_waits_for_pool, "the lock's holder waits for a connection"),
    Relation(("lock-contention",), "pool-exhausted", "effect", _pool_waits_for_lock, "those who hold connections wait for the lock"),
    Relation(
        ("pool-exhausted", "lock-contention"),
        "slow-downstream",
        "after",
        _held_across_call,
        "the queue for what is held across the call costs more than the call",
    ),
    Relation((*DATABASE_RULES, *COMPUTING_RULES, "superlinear", "cpu-hot-spot"), "cpu-saturated", "effect", _always, "it uses the CPU"),
)


def rank(findings: Sequence[Finding], reading: Reading) -> tuple[Finding, ...]:
    """The findings, effects behind or without their causes; confirmed and likely ones first, most time won back first among them."""
    strong = [finding for finding in findings if finding.confidence is not Confidence.POSSIBLE]
    kept: list[Finding] = []
    behind: list[tuple[Finding, Finding]] = []
    for finding in findings:
        found = _explained(finding, strong, reading)
        if found is None:
            kept.append(finding)
            continue
        cause, relation = found
        if relation.mode == "same":
            continue
        note = f"{'ranked behind' if relation.mode == 'after' else 'an effect of'} {cause.rule} ({cause.title}): {relation.why}"
        changed = finding.with_(evidence=(*finding.evidence, note))
        kept.append(changed if relation.mode == "after" else changed.with_(confidence=Confidence.POSSIBLE))
        if relation.mode == "after":
            behind.append((cause, changed))
    ranked = sorted(kept, key=lambda finding: (finding.confidence is Confidence.POSSIBLE, -finding.win_back_per_s))
    for cause, effect in behind:
        if cause in ranked and ranked.index(cause) > ranked.index(effect):
            ranked.remove(effect)
            ranked.insert(ranked.index(cause) + 1, effect)
    return tuple(ranked)


def _explained(finding: Finding, strong: Sequence[Finding], reading: Reading) -> tuple[Finding, Relation] | None:
    for relation in RELATIONS:
        if relation.effect != finding.rule:
            continue
        for cause in strong:
            if cause is not finding and cause.rule in relation.causes and relation.holds(reading, cause, finding):
                return cause, relation
    return None
