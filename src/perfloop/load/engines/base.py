"""What an engine is: a module with ``ID``, ``available()`` and ``run(workload)``.

A workload in several shards (``Workload.sharded``) is run by as many engines, here or elsewhere, that begin at the same ``start_at_s``; what they
tell is merged without loss: seconds by ``merge_seconds``, ends by ``merge_ends``, in any order and grouping.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Protocol

from perfloop.model.journey import Workload
from perfloop.model.run import CheckSamples, HistogramData, JourneySamples, StepSamples


@dataclass(frozen=True)
class Second:
    """What happened since the last one: only the new counts; a step without anything new is missing."""

    elapsed_s: float
    steps: tuple[StepSamples, ...]
    journeys: tuple[JourneySamples, ...] = ()
    checks: tuple[CheckSamples, ...] = ()
    users: int = 0  # closed: active now


@dataclass(frozen=True)
class End:
    """What the engine knows when its window is over. ``arrived`` and ``answered`` are pairs (bin, count) of bins of ``bin_s`` from the start."""

    started_at: float  # seconds since the epoch
    duration_s: float  # for which load was sent; shorter than asked when stopped early
    lateness: HistogramData
    stopped_early: str = ""
    retries: int = 0
    busy: float = 0.0  # share of a core that the generator used
    first_errors: dict[str, str] = field(default_factory=dict)
    bin_s: float = 1.0
    arrived: tuple[tuple[int, int], ...] = ()
    answered: tuple[tuple[int, int], ...] = ()


class Engine(Protocol):
    """One way to send load."""

    ID: str

    def available(self) -> str:
        """Empty where the engine can run here, else the reason why not."""
        ...

    def run(self, workload: Workload) -> Generator[Second, None, End]:
        """Sends one window; yields once a second. Closing the generator ends the load at once. Raises ``CannotMeasure``."""
        ...
