"""Journeys from the configuration, with ``{a..b}`` in a path expanded to numbers spread over that range."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import sqrt
from pathlib import Path

from perfloop.errors import UsageError
from perfloop.model.config import JourneyConfig, StepConfig
from perfloop.model.journey import Feed, Journey, Journeys, Step

LABEL_MAX = 120
PATHS_MAX = 500  # concrete paths of one step
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_GOLDEN = (sqrt(5) - 1) / 2


def journeys_from_config(journeys: Sequence[JourneyConfig], base_dir: Path | None = None) -> Journeys:
    """The configured journeys: single requests as steps, the others as journeys. ``UsageError`` names a range that is none, or a name used twice.

    Files are relative to ``base_dir``.
    """
    if not journeys:
        raise UsageError("there are no journeys", why="the configuration has none", fix='add [[journeys]] with path = "/…" to perfloop.toml')
    folder = base_dir or Path()
    steps = tuple(_step(journey, folder, journey.weight) for journey in journeys if not _several(journey))
    several = tuple(_journey(journey, folder, number) for number, journey in enumerate(journeys, 1) if _several(journey))
    names = [step.name for step in steps] + [journey.name for journey in several]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two journeys are called {name}", why="results are told apart by the name", fix='give one of them another name = "…"')
    return Journeys(steps=steps, journeys=several, source="configuration")


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


def _several(journey: JourneyConfig) -> bool:
    """True where it is more than one request by itself."""
    return bool(journey.steps or journey.feeds or journey.extracts)


def _journey(journey: JourneyConfig, folder: Path, number: int) -> Journey:
    parts = journey.steps or (journey,)
    feeds = tuple(Feed(file=str(folder / file)) for file in journey.feeds)
    steps = tuple(_step(part, folder, 1.0) for part in parts)
    name = journey.name or f"journey {number}"
    return Journey(
        name=name, steps=steps, weight=journey.weight, feeds=feeds, think_s=journey.think_s if journey.steps else (0.0, 0.0), repeatable=journey.repeatable
    )


def _label(step: StepConfig) -> str:
    """A statement without its literals, or a command's name and key, as a name: values are not stored."""
    if step.command:
        shown = " ".join(_RANGE.sub("{id}", _VARIABLE.sub(r"{\1}", step.command)).split()[:2])
    else:
        from perfloop.sql.fingerprint import normalize  # a parser of SQL, only for those who use it

        shown = " ".join(normalize(_RANGE.sub("$1", _VARIABLE.sub("$1", step.sql))).split())
    return shown if len(shown) <= LABEL_MAX else shown[: LABEL_MAX - 1] + "…"


def _step(step: StepConfig, folder: Path, weight: float) -> Step:
    if step.sql or step.command:
        return Step(
            name=step.name or _label(step),
            sql=step.sql,
            command=step.command,
            weight=weight,
            checks=step.checks,
            extracts=step.extracts,
            think_s=step.think_s,
            timeout_s=step.timeout_s,
        )
    paths = expand(step.path) if step.path else tuple(path for given in step.paths for path in expand(given, PATHS_MAX // len(step.paths) or 1))
    shown = _VARIABLE.sub(r"{\1}", _RANGE.sub("{id}", step.path or step.paths[0]))
    for path in paths:
        if not path.startswith("/"):
            raise UsageError(f"the path {path[:120]!r} does not start with /", fix="write paths as /orders/1?page=2; the host is target.url")
    return Step(
        name=step.name or f"{step.method} {shown}",
        method=step.method,
        paths=paths,
        weight=weight,
        headers=tuple(step.headers.items()),
        body=step.body,
        body_file=str(folder / step.body_file) if step.body_file else "",
        checks=step.checks,
        extracts=step.extracts,
        think_s=step.think_s,
        timeout_s=step.timeout_s,
        redirects_max=step.redirects_max,
    )
