"""Which indexes a workload wants and which it does not need: the answer of ``perfloop indexes``."""

from __future__ import annotations

from typing import Literal

from perfloop.model.base import SCHEMA_VERSION, Word


class QueryGain(Word):
    """One query: its planner cost as it is and with the whole advice. ``weight`` times cost is its part of the workload; text without literals."""

    query: str
    weight: float = 1.0
    cost_before: float
    cost_after: float
    uses: tuple[str, ...] = ()  # advised indexes in its new plan


class IndexAdvice(Word):
    """An index to create. Size as a range where the statistics do not tell; ``gain`` is the share of the workload's cost that is lost without it."""

    ddl: str
    undo: str
    table: str
    size_bytes: int
    size_low_bytes: int
    size_high_bytes: int
    gain: float
    write_cost: float = 0.0  # planner units for the writes that the counters show
    disproof: str = ""
    notes: tuple[str, ...] = ()


class IndexDrop(Word):
    """An index that another one makes needless, or that is invalid, with the statement that brings it back."""

    index: str
    table: str
    why: str
    ddl: str
    undo: str
    size_bytes: int = 0


class IndexesResult(Word):
    """The advice. ``cost_ratio``: cost of the workload with it over that without, by the twin's planner; nothing was changed."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ok: bool = True
    create: tuple[IndexAdvice, ...] = ()
    drop: tuple[IndexDrop, ...] = ()
    queries: tuple[QueryGain, ...] = ()
    cost_ratio: float = 1.0
    budget_bytes: int = 0
    candidates: int = 0
    plans_asked: int = 0
    optimal: bool = False  # proved by the solver for the options that were tried
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
