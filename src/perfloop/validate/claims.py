"""Performance figures in a text against what was measured: supported, contradicted, or without evidence.

A figure is read with the words around it: which metric, which endpoint, before or after, up or down. It is supported where a measured fact of
that very kind rounds to it as it is written (68 % is 67.5 to 68.5 %); contradicted where such facts exist and none does; and without evidence
where nothing of that kind was measured. Figures that promise or configure (an SLO of 200 ms, windows of 5 s) are no claims.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from perfloop.validate.facts import ALL, Fact, Role
from perfloop.validate.wording import (
    DOWN,
    METRICS,
    NO_CLAIM_AFTER,
    NO_CLAIM_BEFORE,
    NUMBER,
    PAIR,
    PATH,
    ROLES,
    SCALES,
    TIME_METRICS,
    UP,
    nearest,
    sentences,
)

State = Literal["supported", "contradicted", "without evidence"]


@dataclass(frozen=True)
class Claim:
    """One figure of a text. ``truth`` is the measured fact it agrees with, or the nearest one it contradicts."""

    line: int
    figure: str
    sentence: str
    state: State
    truth: Fact | None = None


@dataclass(frozen=True)
class _Figure:
    """A number with its unit: the range that it stands for as written, and its sign."""

    text: str
    start: int
    end: int
    unit: str  # time, rate, share, factor, ratio
    low: float
    high: float
    sign: int = 0
    role: Role | None = None
    bound: str = ""  # max or min, where the text says "below" or "above"


def check_text(text: str, facts: Sequence[Fact], own_lines: Iterable[str] = ()) -> tuple[Claim, ...]:
    """Every performance figure of a text, judged. A line that perfloop itself wrote for one of the runs (``own_lines``) is supported as it stands."""
    own = {" ".join(line.split()) for line in own_lines if line.strip()}
    found: list[Claim] = []
    for number, sentence, line in sentences(text):
        if " ".join(line.split()) in own:
            continue
        for figure in _figures(sentence):
            state, truth = _judge(figure, sentence, facts)
            found.append(Claim(number, figure.text, sentence.strip()[:300], state, truth))
    return tuple(found)


def _figures(sentence: str) -> Iterator[_Figure]:
    taken: list[tuple[int, int]] = []
    for match in PAIR.finditer(sentence):
        unit = match["unit2"]
        first = _figure(match["a"], match["ka"] or "", match["unit1"] or unit, match.start("a"), match.end("a"))
        second = _figure(match["b"], match["kb"] or "", unit, match.start("b"), match.end("unit2"))
        taken.append(match.span())
        if _is_no_claim(sentence, *match.span()) or first.unit not in ("time", "rate"):
            continue
        yield _Figure(**{**first.__dict__, "role": "before", "text": sentence[match.start("a") : match.end("unit1") if match["unit1"] else match.end("a")]})
        yield _Figure(**{**second.__dict__, "role": "after", "text": sentence[match.start("b") : match.end("unit2")]})
    for match in NUMBER.finditer(sentence):
        if any(start <= match.start() < end for start, end in taken) or _is_no_claim(sentence, *match.span()):
            continue
        prefix = match["times"] or ""
        unit = "×" if prefix else match["unit"]
        if unit is None:
            continue
        figure = _figure(match["a"], match["k"] or "", unit, match.start(), match.end())
        sign = {"-": -1, "−": -1, "+": 1}.get(match["sign"] or "", 0)
        before = sentence[max(0, match.start() - 14) : match.start()].lower()
        bound = (
            "max"
            if re.search(r"(under|below|less than|at most|≤|<)\s*$", before)
            else "min"
            if re.search(r"(over|above|more than|at least|≥|>)\s*$", before)
            else ""
        )
        yield _Figure(**{**figure.__dict__, "text": match.group().strip(), "sign": sign, "bound": bound, "unit": "ratio" if prefix else figure.unit})


def _figure(number: str, thousand: str, unit: str, start: int, end: int) -> _Figure:
    """The number with half a unit of its last written digit on both sides; trailing zeros of whole numbers from 100 on are not counted as digits."""
    digits = number.replace(",", "")
    whole, _, decimals = digits.partition(".")
    zeros = len(whole) - len(whole.rstrip("0")) if not decimals and len(whole) > 2 else 0
    half = 0.5 * 10 ** (zeros - len(decimals))
    kind, scale = SCALES[unit.lower().strip()]
    scale *= {"k": 1e3, "m": 1e6}.get(thousand.lower(), 1.0)
    value = float(digits)
    return _Figure(number, start, end, kind, (value - half) * scale, (value + half) * scale)


def _is_no_claim(sentence: str, start: int, end: int) -> bool:
    return bool(NO_CLAIM_BEFORE.search(sentence[:start]) or NO_CLAIM_AFTER.match(sentence[end:]))


def _judge(figure: _Figure, sentence: str, facts: Sequence[Fact]) -> tuple[State, Fact | None]:
    candidates = _candidates(figure, sentence, facts)
    judged = [(fact, _distance(figure, sentence, fact)) for fact in candidates]
    known = [(fact, distance) for fact, distance in judged if distance is not None]
    if not known:
        return "without evidence", None
    fact, distance = min(known, key=lambda one: one[1])
    return ("supported" if distance <= 1e-9 else "contradicted"), fact


def _candidates(figure: _Figure, sentence: str, facts: Sequence[Fact]) -> list[Fact]:
    """The facts that the figure could be about."""
    metric = nearest(METRICS, sentence, figure.start, figure.end)
    metrics = {metric} if metric else {"rate": {"throughput", "load"}, "time": TIME_METRICS}.get(figure.unit, TIME_METRICS)
    if metric == "latency":
        metrics = {"p95", "mean"}
    elif metric in ("throughput", "load"):
        metrics = {metric}
    subjects = _subjects(sentence, figure.start, facts)
    role = figure.role or nearest(ROLES, sentence, figure.start, figure.end)
    of_change = figure.unit in ("share", "factor", "ratio") and not (metric == "errors" and figure.unit == "share" and not _direction(figure, sentence))
    found = []
    for fact in facts:
        if fact.metric not in metrics or fact.subject not in subjects or (fact.role == "change") != of_change:
            continue
        if not of_change and (fact.kind != figure.unit or (role and fact.role != role)):
            continue
        found.append(fact)
    return found


def _subjects(sentence: str, at: int, facts: Sequence[Fact]) -> set[str]:
    """The endpoint named nearest before the figure, else after it; all requests where none is; nothing where one is named that was not measured."""
    places: list[tuple[int, str]] = []
    names = sorted({fact.subject for fact in facts if fact.subject != ALL}, key=len, reverse=True)
    left = sentence
    for name in names:
        for wanted in (name, name.partition(" ")[2]):
            index = left.find(wanted) if wanted else -1
            while index >= 0:
                after = left[index + len(wanted) : index + len(wanted) + 1]
                if not after or not re.match(r"[\w/{-]", after):
                    places.append((index, name))
                    left = left[:index] + " " * len(wanted) + left[index + len(wanted) :]
                index = left.find(wanted, index + 1)
    places += [(match.start(), "?") for match in PATH.finditer(left)]
    if not places:
        return {ALL}
    before = [place for place in places if place[0] <= at]
    return {max(before)[1] if before else min(places)[1]}


def _direction(figure: _Figure, sentence: str) -> str:
    if figure.sign:
        return "up" if figure.sign > 0 else "down"
    return nearest({"up": UP, "down": DOWN}, sentence, figure.start, figure.end) or ""


def _distance(figure: _Figure, sentence: str, fact: Fact) -> float | None:
    """How far the measured value lies outside what the figure stands for, relative to it; None where the words do not say which way."""
    ranges = [(figure.low, figure.high)] if fact.role != "change" else _implied(figure, sentence, fact)
    if not ranges:
        return None
    if figure.bound:
        return _beyond(figure, fact, ranges)
    return min(max(low - fact.value, fact.value - high, 0.0) / max(abs(fact.value), 1e-12) for low, high in ranges)


def _beyond(figure: _Figure, fact: Fact, ranges: list[tuple[float, float]]) -> float:
    """A bound holds where the value is on its side. "By more than 30 %" down is a ratio below 0.7."""
    low, high = ranges[0]
    below = figure.bound == "max"
    if fact.role == "change" and high < 1:
        below = not below
    return max(fact.value - high if below else low - fact.value, 0.0) / max(abs(fact.value), 1e-12)


def _implied(figure: _Figure, sentence: str, fact: Fact) -> list[tuple[float, float]]:
    """The ratios after/before that the words stand for."""
    if figure.unit == "ratio":
        return [(figure.low, figure.high)]
    direction = _direction(figure, sentence)
    better_is_up = fact.kind == "rate"
    if direction in ("", "better", "worse") and figure.unit == "share":
        return []
    up = direction == "up"
    words = sentence[max(0, figure.start - 60) : figure.end + 30].lower()
    improved = re.search(r"improv|better|speed-?up|optimi[sz]", words) and not figure.sign
    if improved and direction != ("down" if better_is_up else "up"):
        up = better_is_up
    if figure.unit == "share":
        ranges = [(1 + figure.low, 1 + figure.high)] if up else [(1 - figure.high, 1 - figure.low)]
        if "faster" in words and not better_is_up:
            ranges.append((1 / (1 + figure.high), 1 / (1 + figure.low)))
        return ranges
    if figure.low <= 0:
        return []
    slower = re.search(r"slower|worse|longer", words)
    return [(figure.low, figure.high)] if better_is_up or slower else [(1 / figure.high, 1 / figure.low)]
