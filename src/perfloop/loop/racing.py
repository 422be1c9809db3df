"""Several settings race for the service that runs: blocks of rounds, one of the default and one of each candidate, until one is left; then its proof.

Each round of a candidate is a transaction of its own under journal and watchdog: applied, read back, measured, undone, the undo verified. Who
wins is proved by toggling on fresh rounds, and kept or not; then the others race again on top of it, because one bottleneck hides the next.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from math import log
from random import Random

from perfloop.change.base import new_id
from perfloop.errors import ChangeRefused
from perfloop.loop import plugins, tries
from perfloop.loop.guard import Guard
from perfloop.loop.harm import Watch
from perfloop.loop.measure import refuse_broken
from perfloop.loop.prepare import Session
from perfloop.loop.prove import asked, one_round
from perfloop.model.change import Change, Safety
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.result import Tried
from perfloop.model.run import Window
from perfloop.model.verdict import Decision
from perfloop.stats.student import mean_sd
from perfloop.validate import elimination
from perfloop.validate.levels import level
from perfloop.validate.question import Question

BLOCKS_MAX = 6
#: what a round costs beside its window: applying, reading back, undoing
TOGGLE_S = 2.0


@dataclass
class Racer:
    """A candidate: its log ratios to the default, one a block."""

    change: Change
    logs: list[float] = field(default_factory=list)


def run(session: Session, changes: list[Change], trials_max: int) -> Generator[Event, None, int]:
    """Races, proofs and keeps until no candidate is worth a proof, or trials or time are spent; returns the trials: candidates raced, and proofs."""
    session.meter.watch = watch = Watch(session.baseline, session.result.rate_per_s, lambda: session.meter.pids)
    left = []
    for change in changes:
        if change.safety == Safety.SHOW or session.policy.refusal(change):
            yield from tries.attempt(session, change)  # which says why it is shown only
        else:
            left.append(Racer(change))
    trials = 0
    while left:
        room = trials_max - trials - 1
        if room < 1 or session.meter.left_s < _race_s(session, min(len(left), room)):
            session.note(f"not raced, because {'the trials' if room < 1 else 'the time'} were spent: {', '.join(one.change.title for one in left)}")
            break
        raced, waiting = (left[:room], left[room:]) if len(left) > 1 else (left, [])
        if len(raced) > 1:
            trials += len(raced)
            winner, lost = yield from _race(session, raced)
        else:
            winner, lost = raced[0], {}
        for one in raced:
            if reason := lost.get(one.change.id):
                session.put(tried=(*session.result.tried, Tried(change=one.change, decision=Decision.UNDONE, reason=reason)))
        if winner is None:
            left = waiting
            continue
        trials += 1
        kept = yield from tries.attempt(session, _fresh(winner.change))
        left = waiting + [one for one in raced if kept and one is not winner and _may_add(one, winner, session)]
        for one in left:
            one.logs = []
        session.put(tried=tuple(tried for tried in session.result.tried if tried.change.id not in {one.change.id for one in left}))
    for why, after_s in watch.stopped:
        session.note(f"stopped in flight after {after_s:.1f} s: {why}")
    return trials


def _race(session: Session, racers: list[Racer]) -> Generator[Event, None, tuple[Racer | None, dict[str, str]]]:
    """Who won (None: nobody is worth a proof), and why the others lost, by the id of their change."""
    measure = session.config.measure
    question = asked(None, measure, session.policy.environment)
    guard = Guard(session.journal, session.audit, plugins.load("change kind"), tries.context_of(session), session.config)
    lost: dict[str, str] = {}
    alive = list(racers)
    quiet = [log(found) for window in session.baseline if (found := level([window], question.step, question.metric))]
    noise = mean_sd(tuple(quiet))[1] if len(quiet) > 1 else 0.0
    yield PhaseStarted(phase="race", detail=f"{len(alive)} candidates, by the {question.spoken}", left_s=session.meter.left_s)
    with guard.watched(session.meter.target.url):
        for block in range(BLOCKS_MAX):
            if len(alive) < 2 or session.meter.left_s < _race_s(session, len(alive), blocks=1):
                break
            lost |= yield from _block(session, guard, alive, question, seed=measure.seed + 7000 + block)
            alive = [one for one in alive if one.change.id not in lost]
            gone = elimination.out({one.change.id: one.logs for one in alive}, question.effect_min, noise)
            lost |= gone
            for one in alive:
                if one.change.id in gone:
                    yield Told(text=f"out after block {block + 1}: {one.change.title}: {gone[one.change.id]}")
            alive = [one for one in alive if one.change.id not in gone]
    if not alive:
        return None, lost
    first = elimination.leader({one.change.id: one.logs for one in alive})
    winner = next(one for one in alive if one.change.id == first)
    for one in alive:
        if one is not winner:
            lost[one.change.id] = "another candidate was better in the race"
    return winner, lost


def _block(session: Session, guard: Guard, alive: list[Racer], question: Question, seed: int) -> Generator[Event, None, dict[str, str]]:
    """One round of the default and one of each candidate, in random order, with the same arrivals; who was refused or did harm, and why."""
    order: list[Racer | None] = [None, *alive]
    Random(seed).shuffle(order)
    levels: dict[str, float] = {}
    refused: dict[str, str] = {}
    for one in order:
        try:
            window = yield from (_default_round(session, seed) if one is None else _round(session, guard, one.change, seed))
            found = level([window], question.step, question.metric)
        except ChangeRefused as error:
            if one is None:
                raise
            refused[one.change.id] = f"{error.what}: {error.why}" if error.why else error.what
            yield Told(level="warning", text=f"refused: {one.change.title}: {refused[one.change.id]}")
            continue
        if one is not None and not found:
            refused[one.change.id] = "its round has no figure"
        elif found:
            levels[one.change.id if one else ""] = found
    default = levels.get("")
    for one in alive:
        if default and one.change.id in levels:
            one.logs.append(log(levels[one.change.id] / default))
    return refused


def _default_round(session: Session, seed: int) -> Generator[Event, None, Window]:
    window = yield from one_round(session.meter, "default", session.result.rate_per_s, seed)
    refuse_broken(window)
    return window


def _round(session: Session, guard: Guard, change: Change, seed: int) -> Generator[Event, None, Window]:
    """Applied, measured, undone."""
    with guard.open(_fresh(change), run_id=session.result.run_id, target_url=session.meter.target.url) as opened:
        opened.apply()
        tries.settled(session)
        window = yield from tries.renewing(one_round(session.meter, "race-round", session.result.rate_per_s, seed), opened)
        opened.undo("its round of the race is over")
    tries.settled(session)
    if window.stopped_early:
        raise ChangeRefused("stopped in flight", why=window.stopped_early)
    return window


def _fresh(change: Change) -> Change:
    """The same change as a transaction of its own: the live value must still be the one it was planned for."""
    copy: Change = change.with_(id=new_id())
    return copy


def _may_add(one: Racer, winner: Racer, session: Session) -> bool:
    """True where a loser helped by itself and is about something else than what was kept."""
    helped = one.logs and sum(one.logs) / len(one.logs) < log(1 - session.config.measure.effect_min)
    return bool(helped) and not set(one.change.resources) & set(winner.change.resources) and one.change.live_hash != winner.change.live_hash


def _race_s(session: Session, count: int, blocks: int = 2) -> float:
    measure = session.config.measure
    round_s = measure.pairs_window_s + measure.settle_s + TOGGLE_S
    proof_s = 2 * 2 * round_s
    return blocks * (count + 1) * round_s + proof_s
