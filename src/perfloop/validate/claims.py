"""Performance figures in a text against what was measured: supported, contradicted, or without evidence.

A figure is read with the words around it: which metric, which endpoint, before or after, up or down; where its sentence does not say, in the
sentence before, its list's lead-in or its heading. It is supported where a measured fact of that very kind rounds to it as it is written (68 %
is 67.5 to 68.5 %); contradicted where such facts exist and none does; and without evidence where nothing of that kind was measured. Figures that
promise or configure (an SLO of 200 ms, windows of 5 s) are no claims.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from perfloop.validate.facts import ALL, Fact
from perfloop.validate.figures import Figure, figures
from perfloop.validate.prose import Sentence, sentences
from perfloop.validate.wording import BETTER, DOWN, FASTER, METRICS, OVERALL, PATH, ROLES, SLOWER, TIME_METRICS, UP, named_endpoint, nearest

State = Literal["supported", "contradicted", "without evidence"]


@dataclass(frozen=True)
class Claim:
    """One figure of a text. ``truth`` is the measured fact it agrees with, or the nearest one it contradicts."""

    line: int
    figure: str
    sentence: str
    state: State
    truth: Fact | None = None


def check_text(text: str, facts: Sequence[Fact], own_lines: Iterable[str] = ()) -> tuple[Claim, ...]:
    """Every performance figure of a text, judged. A line that perfloop itself wrote for one of the runs (``own_lines``) is supported as it stands."""
    own = {" ".join(line.split()) for line in own_lines if line.strip()}
    found: list[Claim] = []
    for sentence in sentences(text):
        if " ".join(sentence.raw.split()) in own:
            continue
        for figure in figures(sentence):
            state, truth = _judge(figure, sentence, facts)
            found.append(Claim(sentence.line, figure.text, sentence.text.strip()[:300], state, truth))
    return tuple(found)


def _judge(figure: Figure, sentence: Sentence, facts: Sequence[Fact]) -> tuple[State, Fact | None]:
    candidates = _candidates(figure, sentence, facts)
    judged = [(fact, _distance(figure, sentence.text, fact)) for fact in candidates]
    known = [(fact, distance) for fact, distance in judged if distance is not None]
    if not known:
        return "without evidence", None
    fact, distance = min(known, key=lambda one: one[1])
    return ("supported" if distance <= 1e-9 else "contradicted"), fact


def _candidates(figure: Figure, sentence: Sentence, facts: Sequence[Fact]) -> list[Fact]:
    """The facts that the figure could be about."""
    metric = _metric(figure, sentence)
    metrics = {metric} if metric else {"rate": {"throughput", "load"}}.get(figure.unit, TIME_METRICS)
    if metric == "latency":
        metrics = {"p95", "mean"}
    subjects = _subjects(sentence, figure.start, [fact for fact in facts if fact.metric in metrics], facts)
    role = figure.role or _role(figure, sentence)
    of_change = figure.unit in ("share", "factor", "ratio") and not (metric == "errors" and figure.unit == "share" and not _direction(figure, sentence.text))
    found = []
    for fact in facts:
        if fact.metric not in metrics or fact.subject not in subjects or (fact.role == "change") != of_change:
            continue
        if not of_change and (fact.kind != figure.unit or (role and fact.role != role)):
            continue
        found.append(fact)
    return found


def _metric(figure: Figure, sentence: Sentence) -> str | None:
    """The metric named nearest in the clause, else in the sentence, else in what it stands under. "p99 latency" is a p99."""
    place = (figure.start, figure.end)
    exact = {name: pattern for name, pattern in METRICS.items() if name != "latency"}
    if figure.unit == "rate":
        exact = {name: METRICS[name] for name in ("throughput", "load")}
    for whole in (False, True):
        named = nearest(METRICS if figure.unit != "rate" else exact, sentence.text, *place, whole=whole)
        if named == "latency":
            timed = {name: pattern for name, pattern in exact.items() if name in ("p50", "p95", "p99", "mean", "max")}
            named = nearest(timed, sentence.text, *place, whole=whole) or nearest(timed, sentence.text, *place, whole=True) or named
        if named:
            return named
    for text in (sentence.earlier, *reversed(sentence.about)):
        if named := nearest(exact, text, len(text), len(text), whole=True):
            return named
    return None


def _role(figure: Figure, sentence: Sentence) -> str | None:
    """Before or after, by the words of the clause; else by the heading or lead-in, where it names one of them alone."""
    if role := nearest(ROLES, sentence.text, figure.start, figure.end, stop="(;"):
        return role
    if re.match(r"\s*\((?:was|previously|before|(?:up|down) from|from|vorher|zuvor|statt)\b", sentence.text[figure.end :], re.IGNORECASE):
        return "after"
    for text in reversed(sentence.about):
        if re.fullmatch(r"\W*(?:before|baseline|main|vorher)\W*", text, re.IGNORECASE):
            return "before"
        if re.fullmatch(r"\W*(?:after|now|nachher|jetzt)\W*", text, re.IGNORECASE):
            return "after"
    return None


def _subjects(sentence: Sentence, at: int, of_metric: Sequence[Fact], facts: Sequence[Fact]) -> set[str]:
    """The endpoint named nearest before the figure, else after it; then that of the heading or lead-in, or that of the sentence before, where all
    requests may be meant as well. All requests where none is named; nothing where one is named that was not measured."""
    names = sorted({fact.subject for fact in facts if fact.subject != ALL}, key=len, reverse=True)
    places = _places(sentence.text, names)
    if places:
        before = [place for place in places if place[0] <= at]
        return {max(before)[1] if before else min(places)[1]}
    if OVERALL.search(sentence.text):
        return {ALL}
    if under := _places(sentence.earlier, names):
        return {max(under)[1], ALL} - ({ALL} if max(under)[1] not in names else set())
    for text in reversed(sentence.about):
        if under := _places(text, names):
            name = max(under)[1]
            return {ALL} if name in names and all(fact.subject != name for fact in of_metric) else {name}
    return {ALL}


def _places(text: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """(place, endpoint) of every endpoint that a text names; "?" for one that was not measured."""
    places: list[tuple[int, str]] = []
    left = text
    for name in names:
        path = name.partition(" ")[2]
        for wanted in (name, path):
            for match in list(re.finditer(_spelled(wanted), left)) if wanted else ():
                places.append((match.start(), name))
                left = left[: match.start()] + " " * (match.end() - match.start()) + left[match.end() :]
    places += [(match.start(), "?") for match in PATH.finditer(left)]
    for at, word in named_endpoint(left):
        known = [name for name in names if re.sub(r"/[{:<][^/]*$", "", name.partition("?")[0]).rsplit("/", 1)[-1].lower() == word]
        places += [(at, name) for name in known] or [(at, "?")]
    return places


def _spelled(name: str) -> str:
    """A pattern for an endpoint as people write it: its own name, or its path with values for the parameters."""
    parts = re.split(r"(\{[^}]*\})", name)
    return "".join(r"(?:\{[^}]*\}|:\w+|<[^>]*>|[\w.-]+)" if part.startswith("{") else re.escape(part) for part in parts) + r"(?![\w/{-])"


def _direction(figure: Figure, sentence: str) -> str:
    if figure.sign:
        return "up" if figure.sign > 0 else "down"
    if said := re.match(rf"\s*(?:as )?(?:(?P<up>{UP})|(?P<down>{DOWN}))\b", sentence[figure.end :], re.IGNORECASE):
        return "up" if said["up"] else "down"  # "5 % slower" says it itself
    return nearest({"up": UP, "down": DOWN}, sentence, figure.start, figure.end) or ""


def _distance(figure: Figure, sentence: str, fact: Fact) -> float | None:
    """How far the measured value lies outside what the figure stands for, relative to it; None where the words do not say which way."""
    ranges = [(figure.low, figure.high)] if fact.role != "change" else _implied(figure, sentence, fact)
    if not ranges:
        return None
    if figure.bound:
        return _beyond(figure, fact, ranges)
    return min(max(low - fact.value, fact.value - high, 0.0) / max(abs(fact.value), 1e-12) for low, high in ranges)


def _beyond(figure: Figure, fact: Fact, ranges: list[tuple[float, float]]) -> float:
    """A bound holds where the value is on its side. "By more than 30 %" down is a ratio below 0.7."""
    low, high = ranges[0]
    below = figure.bound == "max"
    if fact.role == "change" and high < 1:
        below = not below
    return max(fact.value - high if below else low - fact.value, 0.0) / max(abs(fact.value), 1e-12)


def _implied(figure: Figure, sentence: str, fact: Fact) -> list[tuple[float, float]]:
    """The ratios after/before that the words stand for."""
    if figure.unit == "ratio":
        return [(figure.low, figure.high)]
    direction = _direction(figure, sentence)
    better_is_up = fact.kind == "rate"
    if direction in ("", "better", "worse") and figure.unit == "share":
        return []
    up = direction == "up"
    words = sentence[max(0, figure.start - 60) : figure.end + 30]
    improved = BETTER.search(words) and not figure.sign
    if improved and direction != ("down" if better_is_up else "up"):
        up = better_is_up
    if figure.unit == "share":
        ranges = [(1 + figure.low, 1 + figure.high)] if up else [(1 - figure.high, 1 - figure.low)]
        if FASTER.search(words) and not better_is_up:
            ranges.append((1 / (1 + figure.high), 1 / (1 + figure.low)))
        return ranges
    if figure.low <= 0:
        return []
    return [(figure.low, figure.high)] if better_is_up or SLOWER.search(words) else [(1 / figure.high, 1 / figure.low)]
