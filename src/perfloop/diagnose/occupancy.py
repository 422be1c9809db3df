"""How full the groups of threads are that serve requests, and how many requests wait outside of them: by Little's law, from latencies and stacks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from perfloop.diagnose.frames import Doing
from perfloop.diagnose.reading import Reading, Sample

_AWAY = (Doing.DATABASE, Doing.HTTP, Doing.CACHE, Doing.SLEEP, Doing.OTHER)
_KNOWN_AWAY = (Doing.DATABASE, Doing.HTTP, Doing.CACHE, Doing.SLEEP)
#: of the time of the busiest process of a group; one that has less does not serve
SERVES_MIN = 0.1
_NUMBERS = re.compile(r"[\s_-]*[\d(][\d\s_()x\[\]a-f-]*$")


@dataclass(frozen=True)
class Group:
    """Threads of the service with the same purpose: ``threads`` of them, of which ``busy`` (0..1) of the time each has a request; ``away``: of that, waiting for others.

    ``queued``: requests of its endpoints that wait outside of these threads at any moment (seconds per second); ``whole``: all of their time.
    """

    name: str
    threads: int
    processes: int
    busy: float
    away: float
    queued: float
    whole: float
    steps: tuple[str, ...]
    samples: tuple[Sample, ...]


def groups(reading: Reading) -> list[Group]:
    """The groups of request threads under load, fullest first. Threads that run an event loop serve many requests at once and are no group."""
    by_name: dict[str, list[Sample]] = {}
    for sample in reading.loaded:
        if not sample.on_loop:
            by_name.setdefault(_purpose(sample.thread), []).append(sample)
    found = []
    for name, every in by_name.items():
        samples = _serving(every)
        threads = {sample.thread for sample in samples}
        spent = sum(sample.total for sample in samples)
        away = sum(sample.wait for sample in samples if sample.waits_for in _KNOWN_AWAY)
        shares = reading.steps_of(samples)
        steps = tuple(step for step, value in shares.items() if value >= 0.1 * spent)
        whole = sum(reading.steps[step].rate_per_s * (reading.steps[step].loaded_s or 0.0) for step in steps)
        inside = _inside(reading, steps)
        found.append(
            Group(
                name=name,
                threads=len(threads),
                processes=len({thread.partition(":")[0] for thread in threads}),
                busy=spent / len(threads),
                away=away / spent if spent > 0 else 0.0,
                queued=max(0.0, whole - inside),
                whole=whole,
                steps=steps,
                samples=tuple(samples),
            )
        )
    return sorted(found, key=lambda group: -group.busy)


def _serving(samples: list[Sample]) -> list[Sample]:
    """Without those of processes that hardly ever have a request: a server's first process, seen while it starts another."""
    spent: dict[str, float] = {}
    for sample in samples:
        process = sample.thread.partition(":")[0]
        spent[process] = spent.get(process, 0.0) + sample.total
    most = max(spent.values())
    return [sample for sample in samples if spent[sample.thread.partition(":")[0]] >= SERVES_MIN * most]


def _inside(reading: Reading, steps: Iterable[str]) -> float:
    """Seconds per second that requests of these endpoints are on some stack, under load."""
    return sum(sample.total for name in steps for sample in reading.by_step.get(name, ()))


def _purpose(thread: str) -> str:
    name = thread.partition(":")[2]
    return _NUMBERS.sub("", name) or name
