"""How people write performance figures, in English and German: numbers, units, metrics, directions."""

from __future__ import annotations

import re
from collections.abc import Mapping

_UNIT = (
    r"milliseconds?|microseconds?|seconds?|secs?|msecs?|ms|µs|us|s|Millisekunden?|Mikrosekunden?|Sekunden?"
    r"|%|percent|prozent|×|x|-?fold|-?fache?[snrm]?|(?:times|mal)(?=\s+(?:as|faster|slower|quicker|more|less|higher|lower|shorter|longer|the|so|schneller|langsamer|höher|mehr)\b)"
    r"|requests? per second|requests? a second|requests?/s(?:ec)?|reqs?/s(?:ec)?|anfragen pro sekunde|anfragen/s|rps|qps|tps|/s"
    r"|queries|sql statements|round trips|datenbankabfragen|[KMG]i?B|megabytes?|gigabytes?"
)
_VALUE = r"\d[\d,]*(?:\.\d+)?"
_AFTER_UNIT = r"(?![\w/])"
#: a figure with its unit, or × before it
NUMBER = re.compile(
    rf"(?<![\w./-])(?:(?P<times>×\s?)|(?P<sign>[+−-])\s?)?(?P<a>{_VALUE})(?P<k>[kM](?=\W))?(?:[ \u00a0]?(?P<unit>{_UNIT}){_AFTER_UNIT})?", re.IGNORECASE
)
_BETWEEN = r"\s*(?:→|->|to|down to|up to|auf)\s*"
#: from A to B
PAIR = re.compile(
    rf"(?<![\w./-])(?P<a>{_VALUE})(?P<ka>[kM](?=\W))?(?:[ \u00a0]?(?P<unit1>{_UNIT}){_AFTER_UNIT})?{_BETWEEN}(?P<b>{_VALUE})(?P<kb>[kM](?=\W))?[ \u00a0]?(?P<unit2>{_UNIT}){_AFTER_UNIT}",
    re.IGNORECASE,
)
#: from A to B without any unit: what is meant follows from the metric's name
BARE_PAIR = re.compile(
    rf"(?:(?:from|von)\s+(?P<a>{_VALUE})\s+(?:to|auf)\s+(?P<b>{_VALUE})|(?<![\w./-])(?P<c>{_VALUE})\s*(?:→|->)\s*(?P<d>{_VALUE}))(?![\w%]|[.,]\d|\s?(?:{_UNIT}){_AFTER_UNIT})",
    re.IGNORECASE,
)
#: between A and B
RANGE = re.compile(rf"(?<![\w./-])(?P<a>{_VALUE})[ \u00a0]?(?:%)?\s?[-–]\s?(?P<b>{_VALUE})[ \u00a0]?(?P<unit>{_UNIT}){_AFTER_UNIT}", re.IGNORECASE)
MONEY = re.compile(rf"[$€£]\s?(?P<a>{_VALUE})|(?P<b>{_VALUE})\s?(?:[€£]|dollars?|euros?)(?!\w)", re.IGNORECASE)
#: a path that could be an endpoint: no folder of the system, no file of code or configuration
PATH = re.compile(
    r"(?:(?:GET|POST|PUT|PATCH|DELETE|HEAD) )?(?<![\w.:/])/(?!(?:etc|usr|var|home|tmp|opt|proc|sys|dev|srv)/|(?:s|sec)\b)(?![\w./-]*\.(?:py|js|ts|go|rs|java|rb|php|toml|ya?ml|json|ini|conf|cfg|md|sql|txt|log)\b)[\w{:<][\w{}/.?=&:<>-]*"
)
#: a word for an endpoint: "the orders endpoint"
NAMED_ENDPOINT = re.compile(r"\b(?P<name>[a-z][\w-]+) (?:endpoint|route|page|handler)\b|\b(?P<german>[a-z][\w-]+)-endpunkts?\b", re.IGNORECASE)
_NO_NAMES = {"the", "this", "that", "each", "every", "one", "slow", "slowest", "affected", "whole", "new", "old", "same", "an", "a", "api", "http", "rest", "any", "which"}  # fmt: skip

_TIME = {
    "ms": 1e-3, "msec": 1e-3, "msecs": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3, "millisekunde": 1e-3, "millisekunden": 1e-3,
    "µs": 1e-6, "us": 1e-6, "microsecond": 1e-6, "microseconds": 1e-6, "mikrosekunde": 1e-6, "mikrosekunden": 1e-6,
    "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0, "sekunde": 1.0, "sekunden": 1.0,
}  # fmt: skip
_RATES = (
    "rps", "qps", "tps", "/s", "req/s", "reqs/s", "req/sec", "reqs/sec", "request/s", "requests/s", "request/sec", "requests/sec", "requests per second",
    "request per second", "requests a second", "request a second", "anfragen pro sekunde", "anfragen/s",
)  # fmt: skip
_FACTORS = (
    "x",
    "×",
    "times",
    "mal",
    *(f"{dash}fold" for dash in ("", "-")),
    *(f"{dash}fach{end}" for dash in ("", "-") for end in ("", "e", "es", "en", "er", "em")),
)
SCALES: dict[str, tuple[str, float]] = {
    **{name: ("time", scale) for name, scale in _TIME.items()},
    **dict.fromkeys(("%", "percent", "prozent"), ("share", 0.01)),
    **dict.fromkeys(_FACTORS, ("factor", 1.0)),
    **dict.fromkeys(_RATES, ("rate", 1.0)),
    **dict.fromkeys(("queries", "sql statements", "round trips", "datenbankabfragen"), ("count", 1.0)),
    **dict.fromkeys(("kb", "mb", "gb", "kib", "mib", "gib", "megabyte", "megabytes", "gigabyte", "gigabytes"), ("size", 1.0)),
}
#: magnitudes said in words: (pattern, unit, lowest and highest that it stands for)
WORDS: tuple[tuple[re.Pattern[str], str, float, float], ...] = tuple(
    (re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE), unit, low, high)
    for pattern, unit, low, high in (
        (r"twice as (?:fast|quick)\w*|doppelt so schnell\w*", "factor", 1.8, 2.2),
        (r"halved?|halves|halving|(?:cut|reduced) (?:in|by) half|half (?:the|what|as (?:much|long))|halbiert\w*|um die hälfte", "ratio", 0.45, 0.55),
        (r"doubl(?:ed|es|ing)|twice (?:the|as (?:high|much|many|long|slow))|verdoppelt\w*|doppelt so (?:viel|hoch|lang|langsam)\w*", "ratio", 1.8, 2.2),
        (r"tripl(?:ed|es|ing)|thrice|verdreifacht\w*", "ratio", 2.7, 3.3),
        (r"quadrupl(?:ed|es|ing)|vervierfacht\w*", "ratio", 3.6, 4.4),
        (r"(?:to|only) (?:about |roughly )?a third|a third of (?:what|the|its)|auf ein drittel", "ratio", 0.3, 0.367),
        (r"to (?:about |roughly )?a quarter|a quarter of (?:what|the|its)|auf ein viertel", "ratio", 0.225, 0.275),
        (r"to (?:about |roughly )?a tenth|a tenth of (?:what|the|its)|auf ein zehntel", "ratio", 0.09, 0.11),
        (r"by (?:about |roughly )?a third|um ein drittel", "share", 0.3, 0.367),
        (r"by (?:about |roughly )?two[- ]thirds|um zwei drittel", "share", 0.633, 0.7),
        (r"by (?:about |roughly )?a quarter|um ein viertel", "share", 0.225, 0.275),
        (r"by (?:about |roughly )?three[- ]quarters|um drei viertel", "share", 0.7, 0.8),
        (r"an order of magnitude|eine größenordnung", "factor", 7.0, 14.0),
    )
)

TIME_METRICS = {"p50", "p95", "mean"}
METRICS: dict[str, str] = {
    "p50": r"p50|median\w*|50th",
    "p95": r"p95|95th|95\. perzentil",
    "p99": r"p99|99th|99\. perzentil",
    "mean": r"mean|average|avg|mittelwert|mittlere[rn]?|durchschnitt\w*|im mittel",
    "max": r"max(?:imum)? latency|slowest|maximale latenz",
    "throughput": r"throughput|requests? per second|capacity|highest rate|rps|qps|durchsatz\w*|anfragen pro sekunde",
    "cpu": r"cpu\w*|resource usage|processor",
    "memory": r"memory|rss|heap|ram|speicher\w*",
    "errors": r"errors?|error rate|failures?|failed|fehler\w*",
    "cost": r"costs?|bill|dollars?|kosten|cheaper|billiger",
    "queries": r"quer(?:y|ies)|round trips?|abfragen|sql statements",
    "load": r"arrivals?|offered load|load of",
    "hits": r"hit rates?|hit ratios?|trefferquote",
    "pauses": r"pauses?|garbage collection|gc",
    "start": r"start-?up|cold starts?|boot|build|image",
    "size": r"size|bytes|payload|bundle|page weight",
    "latency": r"latency|latencies|response times?|duration|answers in|takes|took|served in|latenz\w*|antwortzeit\w*|dauert\w*",
}
ROLES = {
    "before": r"before|was|were|baseline|originally|previously|used to|without the change|old|main|master|(?:up|down) from|compared (?:to|with)|instead of|vorher|zuvor|bisher|ursprünglich|statt|lag|war",
    "after": r"after|now|with (?:the|this) (?:change|patch|pr|branch)|afterwards|new|currently|becomes?|this pr|pr|this branch|patched|jetzt|nachher|nun|danach|aktuell",
}
UP = r"increas\w*|rises?|rose|risen|grew|grows|higher|more(?! than)|slower|worse\w*|regress\w*|raised|up(?! to\b)|gain\w*|longer|doubled|stieg\w*|steig\w*|gestiegen|anstieg|höher\w*|langsamer|mehr(?! als)|länger\w*|erhöht\w*|zunahme"
DOWN = r"reduc\w*|decreas\w*|lower\w*|drop\w*|fell|falls|fallen|cuts?|less(?! than)|faster|shorter|down(?! to\b)|fewer|sav\w*|quicker|improv\w*|better|shav\w*|sank|sinkt|gesunken|gesenkt\w*|fiel|gefallen|rückgang|niedriger\w*|schneller\w*|weniger(?! als)|kürzer\w*|reduziert\w*|verringert\w*|verbesser\w*|besser\w*"
SLOWER = re.compile(r"slower|worse|longer|as (?:long|slow|high)|langsamer|länger|so (?:lang|langsam|hoch)", re.IGNORECASE)
FASTER = re.compile(r"faster|quicker|schneller", re.IGNORECASE)
BETTER = re.compile(r"improv|better|speed-?up|optimi[sz]|verbesser|besser", re.IGNORECASE)
OVERALL = re.compile(r"\b(?:overall|all requests|in total|total|service-wide|across the board|insgesamt|gesamt|alle anfragen|aller anfragen)\b", re.IGNORECASE)
ABOUT = re.compile(r"(?:~|≈|\b(?:about|around|roughly|approximately|approx\.?|nearly|almost|circa|ca\.|etwa|rund|knapp|ungefähr))\s*[+−-]?$", re.IGNORECASE)
AT_MOST = re.compile(r"(?:under|below|less than|at most|sub-|≤|<|unter|weniger als|höchstens)\s*$", re.IGNORECASE)
AT_LEAST = re.compile(r"(?:over|above|more than|at least|≥|>|über|mehr als|mindestens)\s*$", re.IGNORECASE)

#: what stands before a figure that promises or configures
NO_CLAIM_BEFORE = re.compile(
    r"(?:\b(?:slo|budget|timeout|limit|threshold|goal|target|promise|windows?|rounds?|pairs?|every|confidence|interval|deadline|settle|ttl|for|last|per|alle|je|zeitlimit|ziel)\b\s*(?:of|is|was|:|=|≤|<=|<|about|von|ist)?\s*)$",
    re.IGNORECASE,
)
NO_CLAIM_AFTER = re.compile(
    r"\s*(?:(?:that (?:is|are) )?worth keeping|confidence|ci\b|interval|windows?|rounds?|timeout|budget|slo\b|limit|of (?:all )?(?:the )?(?:requests|traffic|time)|(?:load )?tests?\b|benchmarks?\b|runs?\b|soak|warm-?up)",
    re.IGNORECASE,
)
#: durations of the work itself, not of the service
NO_CLAIM_ABOUT = re.compile(r"\b(?:tests? (?:pass|ran|run|took|take)\w*|test suite|ci (?:took|takes|run)|pipeline|lint)\b", re.IGNORECASE)
#: the interval in parentheses after a value: 96 ms (91 to 102 ms), −77 % (−81 to −71 %), × 0.31 (0.28–0.35)
_TO = r"\s*(?:to|–|-|\.\.|bis)\s*"
INTERVAL = re.compile(
    rf"((?:ms|µs|us|(?<=[\d \u00a0])s)\s*)\({_VALUE}[ \u00a0]?(?:ms|µs|us|s)?{_TO}{_VALUE}[ \u00a0]?(?:ms|µs|us|s)\)"
    rf"|(%\s*)\([+−-]?{_VALUE}[ \u00a0]?%?{_TO}[+−-]?{_VALUE}[ \u00a0]?%\)|(× ?[\d.]+\s*)\({_VALUE}{_TO}{_VALUE}\)"
)


def word(pattern: str) -> str:
    """The pattern as a word: no letter, digit or slash touches it; a hyphen may follow (p95-Latenz)."""
    return rf"(?<![\w/-])(?:{pattern})(?![\w/])"


def named_endpoint(text: str) -> list[tuple[int, str]]:
    """(place, word) of endpoints that are named by a word: "the orders endpoint"."""
    found = [(match.start(), (match["name"] or match["german"]).lower()) for match in NAMED_ENDPOINT.finditer(text)]
    return [(at, name) for at, name in found if name not in _NO_NAMES]


def nearest(names: Mapping[str, str], sentence: str, start: int, end: int, *, stop: str = "", whole: bool = False) -> str | None:
    """The name whose word stands nearest before the figure within its clause; else nearest after it, where no character of ``stop`` comes first."""
    text = sentence.lower()
    left, right = (0, len(text)) if whole else _clause(text, start, end)
    for index in range(end, right):
        if text[index] in stop:
            right = index
            break
    best: tuple[int, int, str] | None = None
    for name, pattern in names.items():
        for match in re.finditer(word(pattern), text[left:right]):
            at = left + match.start()
            if at < end and left + match.end() > start:
                continue
            # before the figure counts first; after it only the nearest
            place = (0, start - left - match.end(), name) if at < start else (1, at - end, name)
            best = place if best is None or place < best else best
    return best[2] if best else None


def _clause(text: str, start: int, end: int) -> tuple[int, int]:
    """The part of the sentence around a figure, between commas or conjunctions that begin a new statement."""
    cuts = [match.end() for match in re.finditer(r",\s(?=(?:(?:and|und)\s)?[a-z])|\s(?:and|und)\s(?=[a-z])|\swhile\s|\sbut\s|\saber\s|;\s", text)]
    inside = [cut for cut in cuts if cut <= start]
    beyond = [cut for cut in cuts if cut >= end]
    return (inside[-1] if inside else 0), (beyond[0] if beyond else len(text))
