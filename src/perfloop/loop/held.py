"""Small helpers of a meter: a generator whose result is kept, and what the service's processes hold of memory."""

from __future__ import annotations

from collections.abc import Generator, Iterable

from perfloop.errors import CannotMeasure
from perfloop.host import machine
from perfloop.host.procfs import rss_bytes
from perfloop.model.event import Event
from perfloop.model.run import Window
from perfloop.model.target import Target


class Held:
    """Iterates a generator and keeps its return value in ``result``."""

    def __init__(self, generator: Generator[Event, None, Window]) -> None:
        self._generator = generator
        self.result: Window

    def __iter__(self) -> Generator[Event, None, None]:
        self.result = yield from self._generator


def memory_of(target: Target, pids: Iterable[int]) -> dict[str, int | None]:
    """The memory fields of a window: what the service's processes hold now, and what they may."""
    try:
        held = sum(rss_bytes(pid) for pid in pids) or None
    except CannotMeasure:  # one of them has just ended
        held = None
    limits = [process.memory_limit_bytes for process in target.processes if process.memory_limit_bytes]
    return {"memory_bytes": held, "memory_limit_bytes": min(limits) if limits else machine.memory().get("MemTotal") if held else None}
