"""The size sweep: one request of an endpoint with a number in it, sent at several sizes, to see how its cost grows."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from perfloop.model.base import Estimate
from perfloop.model.evidence import SoloObservation
from perfloop.model.journey import Step
from perfloop.stats.histogram import Histogram
from perfloop.stats.intervals import loglog_slope, slope_interval

SIZE_WORDS = re.compile(
    r"^(limit|size|count|n|num|number|top|first|take|rows|k|max|days|months|length|depth|items|results|per_?page|page_?size|max_?results|limit_?\w+|\w+_?(limit|size|count))$",
    re.I,
)
NOT_SIZES = re.compile(r"^(page|offset|skip|start|cursor|seed|v|version)$", re.I)
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
REQUESTS = 3
ROUNDS = 2
REQUEST_MAX_S = 2.5
DATABASES = frozenset({"postgresql", "mysql", "mongodb"})
SERVICES = frozenset({"http", "unknown"})
GROWS_MIN = 1.3  # less from the smallest to the largest size says that this number does not matter
FLAT_MAX = 1.1

Solo = Callable[[Step, int, float], SoloObservation]


@dataclass(frozen=True)
class Knob:
    """A number in a request: ``name`` and its value now, in ``path``. ``is_size``: its name says that it is how much is asked for."""

    name: str
    value: int
    path: str
    is_size: bool

    def at(self, value: int) -> str:
        """The path with another number."""
        parts = urlsplit(self.path)
        pairs = [(key, str(value) if key == self.name else text) for key, text in parse_qsl(parts.query, keep_blank_values=True)]
        if self.name not in {key for key, _ in pairs}:
            pairs.append((self.name, str(value)))
        return urlunsplit(parts._replace(query=urlencode(pairs)))


@dataclass(frozen=True)
class Swept:
    """Points of a sweep: ``sizes`` and what was measured there, one per round."""

    knob: Knob
    sizes: tuple[float, ...]
    values: tuple[float, ...]


def knobs(step: Step, known: Mapping[str, int]) -> list[Knob]:
    """The numbers in the query of a step's paths, largest value of each, sizes by name first; ``known`` are further integer parameters with their defaults."""
    found: dict[str, Knob] = {}
    for path in step.paths:
        for name, text in parse_qsl(urlsplit(path).query):
            if re.fullmatch(r"[1-9]\d{0,6}", text) and not NOT_SIZES.match(name) and (name not in found or int(text) > found[name].value):
                found[name] = Knob(name, int(text), path, bool(SIZE_WORDS.match(name)))
    for name, value in known.items():
        if name not in found and value >= 1 and not NOT_SIZES.match(name):
            found[name] = Knob(name, value, step.paths[0], bool(SIZE_WORDS.match(name)))
    return sorted(found.values(), key=lambda knob: not knob.is_size)


def sweep(step: Step, knob: Knob, measure: str, solo: Solo, deadline: float) -> Swept:
    """Send the step at growing sizes, alone, until ``deadline`` (monotonic); sizes that the service refuses are dropped."""
    sizes: list[float] = []
    values: list[float] = []
    last = growth = 0.0
    for size in dict.fromkeys(max(1, round(knob.value * factor)) for factor in FACTORS):
        if last and last * growth * REQUESTS * ROUNDS > deadline - time.monotonic():
            break
        one = Step(name=step.name, method=step.method, paths=(knob.at(size),), headers=step.headers)
        before = last
        for number in range(ROUNDS):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            seen = solo(one, REQUESTS, min(left, REQUEST_MAX_S))
            if not seen.samples.ok or seen.samples.errors:
                return Swept(knob, tuple(sizes), tuple(values))  # refused: larger ones are too
            if number == 0 and not sizes:
                seen = solo(one, REQUESTS, min(left, REQUEST_MAX_S))  # the first one warms caches of the service
            sizes.append(float(size))
            values.append(_value(seen, measure))
            last = latency(seen)
        growth = max(2.0, last / before) if before else 2.0
    return Swept(knob, tuple(sizes), tuple(values))


def latency(seen: SoloObservation) -> float:
    """The median latency of a solo run, in seconds; 0 without a success."""
    return Histogram.from_data(seen.samples.latency).quantile(0.5) or 0.0


def trips(seen: SoloObservation, kinds: frozenset[str] = DATABASES) -> float:
    """Round trips per request to peers of these kinds."""
    peers = seen.sockets.peers if seen.sockets else ()
    return sum(peer.round_trips for peer in peers if peer.kind in kinds) / max(1, seen.requests)


def _value(seen: SoloObservation, measure: str) -> float:
    if measure == "time":
        return latency(seen)
    return trips(seen, SERVICES if measure == "http-calls" else DATABASES)


def judge_time(swept: Swept, exponent_min: float) -> tuple[bool | None, Estimate | None, str]:
    """Does the time grow faster than the size? By the exponent over the three largest sizes; a constant part makes it smaller, never larger."""
    distinct = sorted(set(swept.sizes))
    if len(distinct) < 3:
        return None, None, f"only {len(distinct)} sizes of {swept.knob.name} could be sent"
    grown = mean_at(swept, distinct[-1]) / max(mean_at(swept, distinct[0]), 1e-9)
    if grown < GROWS_MIN:
        return None, None, f"the time does not depend on {swept.knob.name} ({distinct[0]:g} to {distinct[-1]:g}: × {grown:.2f})"
    points = [(size, value) for size, value in zip(swept.sizes, swept.values, strict=True) if size in distinct[-3:] and value > 0]
    exponent, low, high = loglog_slope([size for size, _ in points], [value for _, value in points])
    estimate = Estimate(value=exponent, low=low, high=high, n=len(points), unit="exponent", source=f"size sweep of {swept.knob.name}")
    text = f"the time grows as {swept.knob.name}^{exponent:.2f} ({low:.2f} to {high:.2f}, {distinct[-3]:g} to {distinct[-1]:g}, {len(points)} runs)"
    if low > exponent_min or (exponent > exponent_min + 0.2 and low > 1.0):
        return True, estimate, text
    return (False if exponent <= exponent_min else None), estimate, text


def judge_trips(swept: Swept) -> tuple[bool | None, Estimate | None, str]:
    """Do the round trips grow with the size?"""
    distinct = sorted(set(swept.sizes))
    if len(distinct) < 2:
        return None, None, f"only {len(distinct)} sizes of {swept.knob.name} could be sent"
    few, many = mean_at(swept, distinct[0]), mean_at(swept, distinct[-1])
    slope, low, high = slope_interval(swept.sizes, swept.values)
    estimate = Estimate(value=slope, low=low, high=high, n=len(swept.sizes), unit="round trips per unit of size", source=f"size sweep of {swept.knob.name}")
    text = f"{few:.0f} round trips at {swept.knob.name}={distinct[0]:g}, {many:.0f} at {distinct[-1]:g}"
    if many >= 1.5 * few and many - few >= 3 and low > 0:
        return True, estimate, text + f": {slope:.2f} more for each more"
    if swept.knob.is_size and many <= FLAT_MAX * few:
        return False, estimate, text
    return None, estimate, text


def mean_at(swept: Swept, size: float) -> float:
    """The mean of what was measured at one size."""
    values = [value for at, value in zip(swept.sizes, swept.values, strict=True) if at == size]
    return sum(values) / len(values)


def best(
    step: Step, known: Mapping[str, int], measure: str, exponent_min: float, solo: Solo, deadline: float
) -> tuple[Swept | None, bool | None, Estimate | None, str]:
    """Sweep the likeliest numbers until one tells; the last answer otherwise."""
    answer: tuple[Swept | None, bool | None, Estimate | None, str] = (None, None, None, "the request has no number to vary")
    choices: Sequence[Knob] = knobs(step, known)[:2]
    for knob in choices:
        if time.monotonic() >= deadline:
            break
        swept = sweep(step, knob, measure, solo, deadline)
        supports, estimate, text = judge_time(swept, exponent_min) if measure == "time" else judge_trips(swept)
        answer = (swept, supports, estimate, text)
        if supports is not None:
            break
    return answer


def parameters_of(openapi: Mapping[str, Any], steps: Sequence[Step]) -> dict[str, dict[str, int]]:
    """Integer query parameters of each step by an OpenAPI document, with the value they have when they are left out; steps that it does not know have none."""
    found: dict[str, dict[str, int]] = {}
    templates = {
        re.compile("".join(r"[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{[^}]*\})", path))): item
        for path, item in openapi.get("paths", {}).items()
    }
    for step in steps:
        path = urlsplit(step.paths[0]).path
        # a path without parameters is the better match: /orders/recent before /orders/{id}
        matches = sorted((pattern.pattern.count("[^/]+"), number, item) for number, (pattern, item) in enumerate(templates.items()) if pattern.fullmatch(path))
        for _, _, item in matches[:1]:
            for parameter in item.get(step.method.lower(), {}).get("parameters", ()):
                schema = parameter.get("schema", {})
                value = schema.get("default", parameter.get("example", schema.get("example")))
                if parameter.get("in") == "query" and schema.get("type") == "integer" and isinstance(value, int):
                    found.setdefault(step.name, {})[str(parameter["name"])] = value
    return found
