"""Queries per request of two states of the code: each step is sent alone, while the database counts its statements."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from perfloop.errors import CannotMeasure, PerfloopError
from perfloop.host.secrets import resolve
from perfloop.loop.measure import Meter, quiet
from perfloop.model.config import BudgetConfig, Config
from perfloop.model.event import Event, PhaseStarted
from perfloop.model.journey import Step
from perfloop.sql.counted import Count, statements_mysql, statements_postgres
from perfloop.validate.budgets import Queries

METRIC = "queries_per_request"
#: of one step alone; two batches, whose difference shows whether the count is steady
BATCHES, BATCH_S, RATE_PER_S = 2, 0.5, 40.0
IDLE_S = 0.5


def counted(budgets: Sequence[BudgetConfig], old: Meter, new: Meter, base: Path) -> Generator[Event, None, Queries]:
    """What the budgets on queries need; nothing where there are none. Why it could not be counted is in the result, never guessed."""
    asked = [budget.step for budget in budgets if budget.metric == METRIC]
    if not asked:
        return Queries()
    steps = [step for step in new.steps if "" in asked or step.name in asked]
    yield PhaseStarted(phase="queries", detail=f"{len(steps)} kinds of request alone, {BATCHES} × {BATCH_S:g} s on either side", left_s=new.left_s)
    try:
        with _counter(new.config, base) as count:
            own, background = _own(count)
            if background:
                raise CannotMeasure("other clients use the database", why=f"{background} statements in {IDLE_S:g} s without a request")
            found: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {}
            for step in steps:
                a = yield from _of_step(old, step, count, own)
                b = yield from _of_step(new, step, count, own)
                found[step.name] = (a, b)
    except PerfloopError as error:
        return Queries(why=f"{error.what}: {error.why}" if error.why else error.what)
    if "" in asked:
        total = sum(step.weight for step in steps)
        found[""] = tuple(tuple(sum(step.weight * found[step.name][arm][batch] for step in steps) / total for batch in range(BATCHES)) for arm in (0, 1))  # type: ignore[assignment]
    return Queries(found)


def _of_step(meter: Meter, step: Step, count: Count, own: int) -> Generator[Event, None, tuple[float, ...]]:
    alone = replace(meter, steps=(step,), journeys=())
    yield from quiet(alone.window("queries", RATE_PER_S, BATCH_S, seed=700))  # fills caches that only the first request fills
    values = []
    for batch in range(BATCHES):
        before = count()
        window = yield from quiet(alone.window("queries", RATE_PER_S, BATCH_S, seed=701 + batch))
        spent = count() - before - own
        sent = sum(one.sent for one in window.steps)
        if spent < 0 or not sent:
            raise CannotMeasure(f"the statements of {step.name} could not be counted", why="the database's counters were reset" if sent else "nothing was sent")
        values.append(spent / sent)
    return tuple(values)


def _own(count: Count) -> tuple[int, int]:
    """What one reading itself counts, and what others sent in half a second without a request of ours."""
    first = count()
    own = count() - first
    before = count()
    time.sleep(IDLE_S)
    return own, max(0, count() - before - own)


@contextmanager
def _counter(config: Config, base: Path) -> Generator[Count, None, None]:
    target = config.target
    if target.postgres:
        opened = statements_postgres(resolve(target.postgres, base))
    elif target.mysql:
        opened = statements_mysql(resolve(target.mysql, base))
    else:
        raise CannotMeasure("the queries of a request cannot be counted", why="neither target.postgres nor target.mysql is configured")
    with opened as count:
        yield count
