"""Where the time of an endpoint goes: parts that add up to what was measured."""

from __future__ import annotations

from typing import Literal

from perfloop.model.base import Word

PartKind = Literal[
    "cpu",
    "database",
    "cache server",
    "downstream",
    "pool",
    "lock",
    "sleep",
    "event loop",
    "interpreter or core",
    "queue",
    "garbage collector",
    "server",
    "variation",
    "unexplained",
]


class TimePart(Word):
    """One part of a response time, in seconds per request. ``what`` names it (a function with file and line, a peer); ``source`` says how it is known.

    ``mean_s`` is its share of the mean, ``tail_s`` of the mean of the slowest 5 %; parts of kind ``unexplained`` may be negative, where more was seen than was measured.
    """

    kind: PartKind
    what: str
    mean_s: float
    tail_s: float | None = None
    samples: int | None = None  # from which it comes, where it was sampled
    source: str = ""


class Breakdown(Word):
    """The response time of one endpoint under load: ``mean_s`` of ``requests`` and ``tail_mean_s``, the mean of the slowest 5 % (means, because percentiles do not add)."""

    step: str
    requests: int
    mean_s: float
    tail_mean_s: float | None
    parts: tuple[TimePart, ...]  # largest first, unexplained last; their sums are ``mean_s`` and ``tail_mean_s``
