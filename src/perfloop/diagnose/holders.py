"""What those requests do that hold what others wait for: connections of a pool, or a lock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from perfloop.diagnose.frames import Doing
from perfloop.diagnose.reading import Reading, Sample
from perfloop.model.evidence import Frame

_USES_DATABASE = (Doing.DATABASE, Doing.POOL)
_AWAY = (Doing.HTTP, Doing.LOCK, Doing.SLEEP, Doing.CACHE)


@dataclass(frozen=True)
class Holders:
    """``mostly``: what takes most of their time (``share`` of it); ``elsewhere``: the line where that is something other than the database or computing.

    ``idle_in_transaction``: the share of used sessions that are idle inside a transaction, as the database sees them.
    """

    mostly: Doing
    share: float
    elsewhere: Frame | None
    idle_in_transaction: float
    known: bool


def holders_of(reading: Reading, steps: Iterable[str]) -> Holders:
    """The requests of these endpoints that do not wait for the pool, in code that uses the database; by thread stacks under load."""
    samples = [sample for name in steps for sample in reading.by_step.get(name, ()) if sample.waits_for is not Doing.POOL or sample.cpu > 0]
    users = _database_functions(reading)
    times: dict[Doing, float] = {}
    lines: dict[tuple[Doing, Frame], float] = {}
    for sample in samples:
        if not any((frame.file, frame.function) in users for frame in sample.app):
            continue
        # computing inside the driver or object mapper is database work too
        times[_computing(sample)] = times.get(_computing(sample), 0.0) + sample.cpu
        if sample.waits_for is not Doing.POOL:
            times[sample.waits_for] = times.get(sample.waits_for, 0.0) + sample.wait
            if sample.waits_for in _AWAY and sample.place:
                lines[sample.waits_for, sample.place] = lines.get((sample.waits_for, sample.place), 0.0) + sample.wait
    whole = sum(times.values())
    active = sum(database.sessions_active_mean for database in reading.evidence.postgres)
    idle = sum(database.sessions_idle_in_transaction_mean for database in reading.evidence.postgres)
    in_transaction = idle / (active + idle) if active + idle > 0 else 0.0
    if whole <= 0:
        return Holders(Doing.OTHER, 0.0, None, in_transaction, False)
    mostly = max(times, key=lambda doing: times[doing])
    mine = {frame: value for (doing, frame), value in lines.items() if doing is mostly}
    elsewhere = max(mine, key=lambda frame: mine[frame]) if mine else None
    return Holders(mostly, times[mostly] / whole, elsewhere, in_transaction, True)


def _computing(sample: Sample) -> Doing:
    return Doing.DATABASE if sample.layer is Doing.DATABASE else Doing.CPU


def _database_functions(reading: Reading) -> set[tuple[str, str]]:
    """Functions of the application that were seen above database or pool work, under load or alone."""
    everything = [*reading.loaded, *(sample for step in reading.steps.values() for sample in step.samples)]
    return {
        (frame.file, frame.function) for sample in everything if sample.layer is Doing.DATABASE or sample.waits_for in _USES_DATABASE for frame in sample.app
    }
