"""The figures of a sentence: numbers with their units, pairs "from A to B", ranges, bare numbers beside a metric's name, magnitudes in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from perfloop.validate.facts import Role
from perfloop.validate.prose import Sentence
from perfloop.validate.wording import (
    ABOUT,
    AT_LEAST,
    AT_MOST,
    BARE_PAIR,
    METRICS,
    MONEY,
    NO_CLAIM_ABOUT,
    NO_CLAIM_AFTER,
    NO_CLAIM_BEFORE,
    NUMBER,
    PAIR,
    PATH,
    RANGE,
    SCALES,
    WORDS,
    nearest,
)

#: "about 40 ms" stands for so much on both sides
ABOUT_SHARE = 0.05
ZEROS_SHARE = 0.05
#: metrics whose bare numbers are requests a second, or milliseconds
_BARE_UNITS = {"throughput": "rps", "load": "rps", **dict.fromkeys(("p50", "p95", "p99", "mean", "max", "latency"), "ms"), "queries": "queries", "memory": "mb"}
_BARE_RATE = re.compile(
    r"\b(?:throughput|rps|qps|durchsatz)\b(?:\s+(?:is|of|at|now|was|beträgt|ist|von|jetzt))*\s*[:=]?\s*(?P<a>\d[\d,]*(?:\.\d+)?)(?P<k>[kM](?=\W))?(?!\s?[\w%×/]|[.,]\d)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Figure:
    """A number with its unit: the range that it stands for as written, and its sign."""

    text: str
    start: int
    end: int
    unit: str  # time, rate, share, factor, ratio; count, size, money: nothing of that kind is measured
    low: float
    high: float
    sign: int = 0
    role: Role | None = None
    bound: str = ""  # max or min, where the text says "below" or "above"


def figures(sentence: Sentence) -> Iterator[Figure]:
    """Every figure that claims something, once each."""
    text = sentence.text
    if sentence.quoted and not nearest(METRICS, text, 0, 0, whole=True):
        return  # code and settings
    taken = [match.span() for match in PATH.finditer(text)]
    for found in (_pairs, _bare_pairs, _ranges, _money, _bare_rates, _numbers, _words):
        for span, figure in found(text):
            if any(start < span[1] and span[0] < end for start, end in taken):
                continue
            taken.append(span)
            for one in figure:
                if not _is_no_claim(text, *span):
                    yield one


Found = Iterator[tuple[tuple[int, int], list[Figure]]]


def _pairs(text: str) -> Found:
    for match in PAIR.finditer(text):
        unit = match["unit2"]
        ends = (match.end("unit1") if match["unit1"] else match.end("a"), match.end("unit2"))
        first = _figure(match["a"], match["ka"], match["unit1"] or unit, match.start("a"), ends[0])
        second = _figure(match["b"], match["kb"], unit, match.start("b"), ends[1])
        if first.unit == "share":
            continue
        yield match.span(), _before_after(text, first, second)


def _bare_pairs(text: str) -> Found:
    for match in BARE_PAIR.finditer(text):
        unit = _BARE_UNITS.get(nearest(METRICS, text, *match.span()) or nearest(METRICS, text, *match.span(), whole=True) or "")
        if unit is None:
            continue
        names = ("a", "b") if match["a"] else ("c", "d")
        first, second = (_figure(match[name], "", unit, match.start(name), match.end(name)) for name in names)
        yield match.span(), _before_after(text, first, second)


def _before_after(text: str, first: Figure, second: Figure) -> list[Figure]:
    return [replace(one, role=role, text=text[one.start : one.end]) for one, role in ((first, "before"), (second, "after"))]  # type: ignore[arg-type]


def _ranges(text: str) -> Found:
    for match in RANGE.finditer(text):
        low, high = (_figure(match[name], "", match["unit"], match.start(), match.end()) for name in ("a", "b"))
        if low.low < high.low:
            yield match.span(), [replace(low, high=high.high, text=match.group())]


def _money(text: str) -> Found:
    for match in MONEY.finditer(text):
        yield match.span(), [Figure(match.group(), *match.span(), "money", 0.0, 0.0)]


def _bare_rates(text: str) -> Found:
    for match in _BARE_RATE.finditer(text):
        yield (match.start("a"), match.end()), [replace(_figure(match["a"], match["k"], "rps", match.start("a"), match.end()), text=match["a"])]


def _numbers(text: str) -> Found:
    for match in NUMBER.finditer(text):
        unit = "×" if match["times"] else match["unit"]
        if unit is None:
            continue
        figure = _figure(match["a"], match["k"], unit, match.start(), match.end())
        sign = {"-": -1, "−": -1, "+": 1}.get(match["sign"] or "", 0)
        before = text[max(0, match.start() - 18) : match.start()]
        bound = "max" if AT_MOST.search(before) else "min" if AT_LEAST.search(before) else ""
        if ABOUT.search(before):
            middle = (figure.low + figure.high) / 2
            figure = replace(figure, low=min(figure.low, middle * (1 - ABOUT_SHARE)), high=max(figure.high, middle * (1 + ABOUT_SHARE)))
        yield match.span(), [replace(figure, text=match.group().strip(), sign=sign, bound=bound, unit="ratio" if match["times"] else figure.unit)]


def _words(text: str) -> Found:
    for pattern, unit, low, high in WORDS:
        for match in pattern.finditer(text):
            if nearest(METRICS, text, *match.span(), whole=True) or PATH.search(text) or unit == "factor":
                yield match.span(), [Figure(match.group(), *match.span(), unit, low, high)]


def _figure(number: str, thousand: str | None, unit: str, start: int, end: int) -> Figure:
    """The number with half a unit of its last written digit on both sides; trailing zeros of whole numbers from 100 on are not counted as digits, within 5 %."""
    digits = number.replace(",", "")
    whole, _, decimals = digits.partition(".")
    zeros = len(whole) - len(whole.rstrip("0")) if not decimals and len(whole) > 2 else 0
    half = 0.5 * 10 ** (zeros - len(decimals))
    if zeros:
        half = max(0.5, min(half, ZEROS_SHARE * float(digits)))
    kind, scale = SCALES[unit.lower().strip()]
    scale *= {"k": 1e3, "m": 1e6}.get((thousand or "").lower(), 1.0)
    value = float(digits)
    return Figure(number, start, end, kind, (value - half) * scale, (value + half) * scale)


def _is_no_claim(text: str, start: int, end: int) -> bool:
    if NO_CLAIM_BEFORE.search(text[:start]) or NO_CLAIM_AFTER.match(text[end:]):
        return True
    return bool(NO_CLAIM_ABOUT.search(text)) and not nearest(METRICS, text, start, end)
