"""When load arrives and what it is: pure functions of the workload, so that the same seed gives the same schedule.

Both arms of a comparison use one seed: then they get the same arrivals and the same requests in the same order, and the noise
of the schedule cancels in their ratio (common random numbers). Shards see the same schedule and take every n-th of it.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import sqrt
from random import Random


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a curve: from ``from_s`` for ``duration_s`` the level goes in a line from ``low`` to ``high``."""

    from_s: float
    duration_s: float
    low: float
    high: float


class Curve:
    """A level over time, of requests a second or users, made of straight pieces; after the last one its end level holds."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces
        self._starts = [piece.from_s for piece in pieces]
        self._areas = [0.0, *accumulate(piece.duration_s * (piece.low + piece.high) / 2 for piece in pieces)]

    def level(self, at_s: float) -> float:
        """The level at a time."""
        piece = self._pieces[max(0, bisect(self._starts, at_s) - 1)]
        share = min(1.0, (at_s - piece.from_s) / piece.duration_s)
        return piece.low + (piece.high - piece.low) * share

    def when(self, area: float) -> float:
        """The time by which the area under the curve is this much: when the n-th arrival is due at a rate that changes. Infinite where it never is."""
        place = min(bisect(self._areas, area), len(self._pieces)) - 1
        piece, left = self._pieces[place], area - self._areas[place]
        slope = (piece.high - piece.low) / piece.duration_s
        if abs(slope) < 1e-12:
            return piece.from_s + left / piece.low if piece.low > 0 else float("inf")
        inner = piece.low * piece.low + 2 * slope * left
        if inner < 0:
            return float("inf")
        return piece.from_s + 2 * left / (piece.low + sqrt(inner)) if left > 0 else piece.from_s


def make_curve(level: float, stages: Iterable[tuple[float, float, bool]], ramp_up_s: float, duration_s: float) -> Curve:
    """The curve of a workload: its stages (duration, level at the end, at once) or its one level, risen to from 0 within ``ramp_up_s``, to ``duration_s`` at least."""
    pieces: list[Piece] = []
    at_s = before = 0.0
    if ramp_up_s > 0 and level > 0:
        pieces.append(Piece(0.0, ramp_up_s, 0.0, level))
        at_s, before = ramp_up_s, level
    given = False
    for length_s, target, at_once in stages:
        pieces.append(Piece(at_s, length_s, target if at_once else before, target))
        at_s, before, given = at_s + length_s, target, True
    last = before if given else level
    pieces.append(Piece(at_s, max(duration_s - at_s, 1.0), last, last))
    return Curve(pieces)


def curve_times(curve: Curve, duration_s: float, arrival: str, seed: int) -> Iterator[float]:
    """Seconds from the start of each arrival, ascending, all below ``duration_s``.

    ``constant``: the i-th when the curve says that i are due. ``poisson``: independent exponential amounts between them, so the count varies by its square root.
    """
    draw = Random(f"{seed} arrivals").expovariate
    poisson = arrival == "poisson"
    due = draw(1.0) if poisson else 0.0
    while (at := curve.when(due)) < duration_s - 1e-9:
        yield at
        due += draw(1.0) if poisson else 1.0


def arrival_times(rate_per_s: float, duration_s: float, arrival: str, seed: int) -> Iterator[float]:
    """As ``curve_times`` at one rate all along. ``constant``: i/rate."""
    if arrival == "constant":
        # the slack keeps 0.3 · 10 = 3.0000000000000004 from adding a fourth request
        count = -int(-(rate_per_s * duration_s - 1e-9) // 1)
        for i in range(count):
            yield i / rate_per_s
        return
    draw = Random(f"{seed} arrivals").expovariate
    at = draw(rate_per_s)
    while at < duration_s:
        yield at
        at += draw(rate_per_s)


def step_choices(weights: Sequence[float], seed: int | str) -> Iterator[int]:
    """Endless indices of steps, drawn by weight; independent of the rate, so a slower window sends a prefix of a faster one."""
    bounds = list(accumulate(weights))
    total, last = bounds[-1], len(bounds) - 1
    if last == 0:
        while True:
            yield 0
    draw = Random(f"{seed} steps").random
    while True:
        yield min(bisect(bounds, draw() * total), last)


def shard_arrivals(times: Iterable[float], choices: Iterator[int], index: int, count: int, from_s: float) -> Iterator[tuple[int, float, int]]:
    """(number, time, choice) of the arrivals of one shard: every ``count``-th of the whole schedule, those due before ``from_s`` left out."""
    for number, at_s in enumerate(times):
        choice = next(choices)
        if number % count == index and at_s >= from_s:
            yield number, at_s, choice
