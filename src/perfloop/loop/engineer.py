"""The whole loop on one screen: understand, baseline, look, diagnose, change, prove, keep or undo, look again, deliver."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from perfloop.errors import Interrupted
from perfloop.loop import deliver, look, prepare, racing, tries
from perfloop.loop.prepare import Session
from perfloop.model.change import Plan
from perfloop.model.event import Event
from perfloop.model.finding import Proposal
from perfloop.model.result import RunResult

#: what is to be tried, once the target is understood
Proposals = Callable[[Session], Sequence[Proposal]]


def improve(session: Session) -> Generator[Event, None, RunResult]:
    """Find what is slow, fix what is safe, prove it, undo what did not help; returns the result, saved at each step."""
    try:
        yield from prepare.understand(session)
        yield from prepare.baseline(session)
        prepare.snapshot(session)
        yield from look.diagnose(session)
        yield from deliver.measure_throughput(session, "throughput before")
        yield from tries.plan(session)
        while (change := tries.next_change(session)) is not None:
            kept = yield from tries.attempt(session, change)
            if kept:  # bottlenecks hide one another: what is first now?
                yield from look.diagnose(session)
                yield from tries.plan(session)
        yield from deliver.measure_after(session)
    except (KeyboardInterrupt, Interrupted):
        return deliver.finish(session, "interrupted")
    return deliver.finish(session, "done")


def apply(session: Session, plan: Plan) -> Generator[Event, None, RunResult]:
    """Try the changes of a saved plan, each proved, kept or undone, without a new diagnosis."""
    try:
        yield from prepare.understand(session)
        yield from prepare.baseline(session)
        session.queue = [(None, change) for change in plan.changes]
        while (change := tries.next_change(session)) is not None:
            yield from tries.attempt(session, change)
        yield from deliver.measure_after(session)
    except (KeyboardInterrupt, Interrupted):
        return deliver.finish(session, "interrupted")
    return deliver.finish(session, "done")


def race(session: Session, proposals: Proposals, trials_max: int) -> Generator[Event, None, RunResult]:
    """Several settings race for the running service; each winner is proved on fresh rounds, kept or undone."""
    try:
        yield from prepare.understand(session)
        yield from prepare.baseline(session)
        changes = tries.planned(session, proposals(session))
        trials = yield from racing.run(session, changes, trials_max)
        session.note(f"{trials} trials of {trials_max}")
        yield from deliver.measure_after(session)
    except (KeyboardInterrupt, Interrupted):
        return deliver.finish(session, "interrupted")
    return deliver.finish(session, "done")


def check(session: Session) -> Generator[Event, None, RunResult]:
    """Look only: baseline, evidence, diagnosis; the service gets load, and nothing is changed but what experiments that the configuration allows put in and undo."""
    try:
        yield from prepare.understand(session)
        yield from prepare.baseline(session)
        prepare.snapshot(session)
        yield from look.diagnose(session)
    except (KeyboardInterrupt, Interrupted):
        return deliver.finish(session, "interrupted")
    return deliver.finish(session, "done")
