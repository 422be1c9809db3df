"""Journeys from the configuration, with ``{a..b}`` in a path expanded to numbers spread over that range."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import sqrt

from perfloop.errors import UsageError
from perfloop.model.config import JourneyConfig
from perfloop.model.journey import Journeys, Step

PATHS_MAX = 500  # concrete paths of one step
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_GOLDEN = (sqrt(5) - 1) / 2


def journeys_from_config(journeys: Sequence[JourneyConfig]) -> Journeys:
    """The configured journeys as steps; ``UsageError`` names a range that is none, or a name used twice."""
    if not journeys:
        raise UsageError("there are no journeys", why="the configuration has none", fix='add [[journeys]] with path = "/…" to perfloop.toml')
    steps = tuple(_step(journey) for journey in journeys)
    names = [step.name for step in steps]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two journeys are called {name}", why="results are told apart by the name", fix='give one of them another name = "…"')
    return Journeys(steps=steps, source="configuration")


def expand(path: str, count_max: int = PATHS_MAX) -> tuple[str, ...]:
    """The concrete paths of a path with ``{a..b}``: at most ``count_max`` different numbers, spread evenly over the range in an order that jumps.

    The order is that of multiples of the golden ratio: any first few are spread over the whole range already, so that a short window does not
    send neighbours that share cache pages. Several ranges in one path advance together. The same path gives the same numbers.
    """
    ranges = [(int(match[1]), int(match[2])) for match in _RANGE.finditer(path)]
    if not ranges:
        return (path,)
    for low, high in ranges:
        if high < low:
            raise UsageError(f"the range {{{low}..{high}}} in {path} is empty", fix=f"write {{{high}..{low}}}")
    wanted = min(count_max, max(high - low + 1 for low, high in ranges))
    found: dict[str, None] = {}
    for k in range(4 * wanted):  # small ranges repeat before all their numbers came
        numbers = iter([low + int((k * _GOLDEN * (place + 1)) % 1.0 * (high - low + 1)) for place, (low, high) in enumerate(ranges)])
        found[_RANGE.sub(lambda _, numbers=numbers: str(next(numbers)), path)] = None  # type: ignore[misc]
        if len(found) == wanted:
            break
    return tuple(found)


def _step(journey: JourneyConfig) -> Step:
    paths = expand(journey.path) if journey.path else tuple(path for given in journey.paths for path in expand(given, PATHS_MAX // len(journey.paths) or 1))
    shown = _RANGE.sub("{id}", journey.path or journey.paths[0])
    for path in paths:
        if not path.startswith("/"):
            raise UsageError(f"the path {path[:120]!r} does not start with /", fix="write paths as /orders/1?page=2; the host is target.url")
    return Step(
        name=journey.name or f"{journey.method} {shown}",
        method=journey.method,
        paths=paths,
        weight=journey.weight,
        headers=tuple(journey.headers.items()),
        body=journey.body,
    )
