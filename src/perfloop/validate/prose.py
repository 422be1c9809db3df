"""How a text falls into sentences, table cells and what they stand under; and how its numbers are written: English or German, with intervals, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import unescape

from perfloop.validate.wording import INTERVAL, PATH, word

_SPLIT = re.compile(r"(?<=[.!?;])\s+(?=\S)")
_HEADING = re.compile(r"\s{0,3}#{1,6}\s+(.*)")
_ITEM = re.compile(r"\s*(?:[-*+•]|\d+[.)])\s+")
_LEAD_IN_MAX_CHARS = 120
_GERMAN = re.compile(
    r"\b(?:der|das|die|von|auf|um|und|ist|sank|sinkt|stieg|fiel|jetzt|vorher|nachher|statt|Latenz|Antwortzeit|Durchsatz|Anfragen|schneller|langsamer|Sekunden?|Millisekunden|Prozent)\b"
)
_GERMAN_WORDS_MIN = 2
_NUMBER_WORDS = {
    **dict(zip(("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"), range(2, 11), strict=True)),
    **dict(zip(("zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn"), range(2, 11), strict=True)),
}
_IN_WORDS = re.compile(rf"\b({'|'.join(_NUMBER_WORDS)})[ -]?(times|fold|mal|fach)\b", re.IGNORECASE)
#: the unit that a header or a row's label gives to its bare numbers: "p95 (ms)", "Latency [s]", "requests/s"
_UNIT_OF_LABEL = re.compile(r"[(\[]\s*(ms|s|µs|us|sec|seconds|milliseconds|%|rps|qps|req/s|requests/s|MB|MiB|GB)\s*[)\]]", re.IGNORECASE)
_RATE_LABEL = re.compile(word(r"rps|qps|tps|throughput|durchsatz|req(?:uest)?s?/s(?:ec)?|requests per second"), re.IGNORECASE)
_FACTOR_LABEL = re.compile(word(r"speed-?up|factor|faktor"), re.IGNORECASE)
_BARE = re.compile(r"[+−-]?\d[\d,]*(?:\.\d+)?")
_FIGURE = re.compile(r"\d")
_NAME_WITH_DIGITS = re.compile(r"\b[pP]\d\d\b|\b\d\dth\b")
_DASHES = re.compile(r":?-+:?")


@dataclass(frozen=True)
class Sentence:
    """One sentence or table cell. ``about`` is what it stands under (heading, lead-in), nearest last; ``earlier`` are the sentences before it in its paragraph."""

    line: int
    text: str
    raw: str  # the whole line
    about: tuple[str, ...] = ()
    earlier: str = ""
    quoted: bool = False  # in a code block


def sentences(text: str) -> Iterator[Sentence]:
    """Every sentence with its place; a cell of a Markdown table is one, with its row's words and its column's header."""
    german = is_german(text)
    place = _Place()
    for number, raw in enumerate(text.splitlines(), 1):
        line = _plain(raw, german)
        if line.lstrip().startswith("```"):
            place.fenced = not place.fenced
        elif line.strip().startswith("|") and not place.fenced:
            yield from place.cells(number, line, raw)
        elif place.fenced:
            yield Sentence(number, line.strip(), raw, place.about, quoted=True)
        else:
            yield from place.prose(number, line, raw)


def is_german(text: str) -> bool:
    """Whether commas are decimal: at least two different German words."""
    return len({match.group().lower() for match in _GERMAN.finditer(text)}) >= _GERMAN_WORDS_MIN


class _Place:
    """Where in the text we are: under which heading and lead-in, after which sentence, in which table."""

    def __init__(self) -> None:
        self.heading = self.lead_in = ""
        self.header: list[str] = []
        self.fenced = False

    @property
    def about(self) -> tuple[str, ...]:
        return tuple(text for text in (self.heading, self.lead_in) if text)

    def prose(self, number: int, line: str, raw: str) -> Iterator[Sentence]:
        """The sentences of a line; a heading or a lead-in is remembered."""
        self.header = []
        heading = _HEADING.match(line)
        item = _ITEM.match(line)
        if heading:
            self.heading, self.lead_in = heading[1], ""
        elif line.strip() and not item and not line.startswith((" ", "\t")):
            self.lead_in = ""
        before = ""
        body = line[item.end() :] if item else line
        for part in _SPLIT.split(body):
            if part.strip():
                yield Sentence(number, part, raw, self.about, before)
                before = f"{before} {part}".strip()
        if (
            not heading
            and not item
            and len(line) <= _LEAD_IN_MAX_CHARS
            and (line.rstrip().endswith(":") or (PATH.search(line) and not re.search(r"\.\s|\.$", line)))
        ):
            self.lead_in = line.strip()

    def cells(self, number: int, line: str, raw: str) -> Iterator[Sentence]:
        """The cells of a table's row that hold figures, each with the words of its row and its column's header."""
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if all(_DASHES.fullmatch(cell) for cell in cells):
            return
        if not self.header:
            self.header = cells
            return
        words = [cell for index, cell in enumerate(cells) if not index or not _FIGURE.search(_NAME_WITH_DIGITS.sub("", PATH.sub("", cell)))]
        for name, cell in zip(self.header[1:], cells[1:], strict=False):
            if cell in words:
                continue
            label = f"{' '.join(words)} {_UNIT_OF_LABEL.sub('', name)}".strip()
            yield Sentence(number, f"{label}: {_with_unit(cell, name, words)}", raw, self.about)


def _with_unit(cell: str, name: str, words: Sequence[str]) -> str:
    """A bare number with the unit that its header or its row's label gives."""
    if not _BARE.fullmatch(cell):
        return cell
    for label in (name, *words):
        if unit := _UNIT_OF_LABEL.search(label):
            return f"{cell} {unit[1]}"
        if _FACTOR_LABEL.search(label):
            return f"{cell}x"
        if _RATE_LABEL.search(label):
            return f"{cell} rps"
    return cell


def _plain(line: str, german: bool) -> str:
    """Without Markdown's escapes and marks, HTML's entities and the intervals after values; with decimal points, and figures for number words."""
    text = unescape(line).replace("\\", "")
    if not text.lstrip().startswith("```"):
        text = text.replace("`", "")
    text = text.replace("**", "").replace("\u202f", " ").replace("\u00a0", " ").replace("μ", "µ").replace("=>", "->")
    if german:
        text = re.sub(r"(?<![\d.,])([1-9]\d{0,2})((?:\.\d{3})+)(?![\d.])", lambda match: match[1] + match[2].replace(".", ""), text)
        text = re.sub(r"(?<=\d),(?=\d)", ".", text)
    else:
        text = re.sub(r"(?<![\d,.])(0),(?=\d)|(?<![\d,.])(\d+),(?=(?:\d{1,2}|\d{4,})(?![\d,]))", lambda match: f"{match[1] or match[2]}.", text)
    text = _IN_WORDS.sub(lambda match: f"{_NUMBER_WORDS[match[1].lower()]} {match[2].lower()}", text)
    return INTERVAL.sub(lambda match: match[1] or match[2] or match[3], text)
