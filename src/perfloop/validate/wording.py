"""How people write performance figures: numbers, units, metrics, directions; and how a text falls into sentences and table cells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import unescape

_UNIT = r"milliseconds?|microseconds?|seconds?|secs?|ms|µs|us|s|%|percent|×|x|times|requests? per second|requests?/s(?:ec)?|reqs?/s(?:ec)?|rps|qps|tps|/s"
_VALUE = r"\d[\d,]*(?:\.\d+)?"
#: a figure with its unit, or × before it
NUMBER = re.compile(
    rf"(?<![\w./-])(?:(?P<times>×\s?)|(?P<sign>[+−-])\s?)?(?P<a>{_VALUE})(?P<k>[kM](?=\W))?(?:[ \u00a0]?(?P<unit>{_UNIT})(?![\w/]))?", re.IGNORECASE
)
#: from A to B
PAIR = re.compile(
    rf"(?<![\w./-])(?P<a>{_VALUE})(?P<ka>[kM](?=\W))?(?:[ \u00a0]?(?P<unit1>{_UNIT})(?![\w/]))?\s*(?:→|->|to|down to|up to)\s*(?P<b>{_VALUE})(?P<kb>[kM](?=\W))?[ \u00a0]?(?P<unit2>{_UNIT})(?![\w/])",
    re.IGNORECASE,
)
#: a path that could be an endpoint
PATH = re.compile(r"(?:(?:GET|POST|PUT|PATCH|DELETE|HEAD) )?(?<![\w.:/])/[\w{][\w{}/.?=&-]*")

_TIME = {"milliseconds": 1e-3, "ms": 1e-3, "microseconds": 1e-6, "µs": 1e-6, "us": 1e-6, "seconds": 1.0, "sec": 1.0, "s": 1.0}
SCALES: dict[str, tuple[str, float]] = {
    **{name: ("time", scale) for name, scale in _TIME.items()},
    **{name: ("time", _TIME[name + "s"]) for name in ("millisecond", "microsecond", "second")},
    "secs": ("time", 1.0),
    **dict.fromkeys(("%", "percent"), ("share", 0.01)),
    **dict.fromkeys(("x", "×", "times"), ("factor", 1.0)),
    **dict.fromkeys(("rps", "qps", "tps", "/s", "req/s", "reqs/s", "req/sec", "reqs/sec", "request/s", "requests/s", "request/sec", "requests/sec", "requests per second", "request per second"), ("rate", 1.0)),
}  # fmt: skip

TIME_METRICS = {"p50", "p95", "mean"}
METRICS: dict[str, str] = {
    "p50": r"p50|median|50th",
    "p95": r"p95|95th",
    "p99": r"p99|99th",
    "mean": r"mean|average|avg",
    "max": r"max(?:imum)? latency|slowest",
    "throughput": r"throughput|requests? per second|capacity|highest rate|rps|qps",
    "cpu": r"cpu|resource usage|processor",
    "memory": r"memory|rss|heap",
    "errors": r"errors?|error rate|failures?|failed",
    "cost": r"costs?|bill|dollars?",
    "queries": r"quer(?:y|ies)|round trips?",
    "load": r"arrivals?|offered load|load of",
    "latency": r"latency|response times?|duration|answers in|takes|took|served in",
}
ROLES = {
    "before": r"before|was|were|baseline|originally|previously|used to|without the change|old",
    "after": r"after|now|with the change|afterwards|new|currently|becomes?",
}
UP = r"increas\w*|rises?|rose|grew|grows|higher|more(?! than)|slower|worse\w*|regress\w*|raised|up by|gain\w*|longer"
DOWN = r"reduc\w*|decreas\w*|lower\w*|drop\w*|fell|falls|cuts?|less(?! than)|faster|shorter|down by|fewer|sav\w*|quicker|improv\w*|better"

#: what stands before a figure that promises or configures
NO_CLAIM_BEFORE = re.compile(
    r"(?:\b(?:slo|budget|timeout|limit|threshold|goal|target|promise|windows?|rounds?|pairs?|every|confidence|interval|deadline|settle|ttl|for|last|per)\b\s*(?:of|is|was|:|=|≤|<=|<|about)?\s*)$",
    re.IGNORECASE,
)
NO_CLAIM_AFTER = re.compile(
    r"\s*(?:(?:that (?:is|are) )?worth keeping|confidence|ci\b|interval|windows?|rounds?|timeout|budget|slo\b|limit|of (?:all )?(?:the )?(?:requests|traffic|time))",
    re.IGNORECASE,
)
#: the interval in parentheses after a value: 96 ms (91 to 102 ms), −77 % (−81 to −71 %), × 0.31 (0.28–0.35)
_TO = r"\s*(?:to|–|-|\.\.)\s*"
_INTERVAL = re.compile(
    rf"((?:ms|µs|us|(?<=[\d \u00a0])s)\s*)\({_VALUE}[ \u00a0]?(?:ms|µs|us|s)?{_TO}{_VALUE}[ \u00a0]?(?:ms|µs|us|s)\)"
    rf"|(%\s*)\([+−-]?{_VALUE}[ \u00a0]?%?{_TO}[+−-]?{_VALUE}[ \u00a0]?%\)|(× ?[\d.]+\s*)\({_VALUE}{_TO}{_VALUE}\)"
)
_SPLIT = re.compile(r"(?<=[.!?;])\s+(?=\S)")


def nearest(names: Mapping[str, str], sentence: str, start: int, end: int) -> str | None:
    """The name whose word stands nearest before the figure within its clause; else nearest after it."""
    text = sentence.lower()
    left, right = _clause(text, start, end)
    best: tuple[int, int, str] | None = None
    for name, pattern in names.items():
        for match in re.finditer(rf"(?<![\w/-])(?:{pattern})(?![\w/-])", text[left:right]):
            at = left + match.start()
            if at < end and left + match.end() > start:
                continue
            # before the figure counts first; after it only the nearest
            place = (0, start - left - match.end(), name) if at < start else (1, at - end, name)
            best = place if best is None or place < best else best
    return best[2] if best else None


def _clause(text: str, start: int, end: int) -> tuple[int, int]:
    """The part of the sentence around a figure, between commas or conjunctions that begin a new statement."""
    cuts = [match.end() for match in re.finditer(r",\s(?=(?:and\s)?[a-z])|\sand\s(?=[a-z])|\swhile\s|\sbut\s", text)]
    inside = [cut for cut in cuts if cut <= start]
    beyond = [cut for cut in cuts if cut >= end]
    return (inside[-1] if inside else 0), (beyond[0] if beyond else len(text))


def sentences(text: str) -> Iterator[tuple[int, str, str]]:
    """(line number, sentence, the whole line); a cell of a Markdown table becomes a sentence with its header and the row's label."""
    header: list[str] = []
    fenced = False
    for number, raw in enumerate(text.splitlines(), 1):
        line = _plain(raw)
        if line.lstrip().startswith("```"):
            fenced = not fenced
        if fenced:
            continue
        if line.strip().startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                continue
            if not header:
                header = cells
                continue
            for name, cell in zip(header[1:], cells[1:], strict=False):
                yield number, f"{cells[0]} {name}: {cell}", raw
            continue
        header = []
        for part in _SPLIT.split(line):
            if part.strip():
                yield number, part, raw


def _plain(line: str) -> str:
    """Without Markdown's escapes and marks, HTML's entities, and the intervals after values."""
    text = unescape(line).replace("\\", "").replace("`", "").replace("**", "")
    return _INTERVAL.sub(lambda match: match[1] or match[2] or match[3], text)
