"""Journeys from an access log in combined (or common) format, as nginx and Apache write it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from urllib.parse import urlsplit

from perfloop.errors import UsageError
from perfloop.load.engines.labels import template
from perfloop.model.arrival import REPLAY_MAX, Replay, Stage
from perfloop.model.journey import Journeys, Step

STEPS_MAX = 20
PATHS_MAX = 500  # concrete paths kept of one step
LINE_MAX = 16_384
TEMPLATES_MAX = 10_000  # more different ones than this is noise, and is counted as such
_TIME = re.compile(r"\[(\d{2})/([A-Z][a-z]{2})/(\d{4}):(\d{2}):(\d{2}):(\d{2}) ([+-])(\d{2})(\d{2})\]")
_MONTHS = {name: number for number, name in enumerate(("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1)}
STAGES = 240  # pieces of an arrival curve
_LINE = re.compile(r'^\S+ \S+ .*?\[[^\]]{5,40}\] "(?P<method>[A-Z]{3,10}) (?P<target>\S+) HTTP/\d(?:\.\d)?" (?P<status>[1-5]\d\d) (?:\d+|-)(?: |$)')


def journeys_from_log(lines: Iterable[str], limit: int) -> Journeys:
    """The GET requests of the first ``limit`` lines, grouped by path with numbers and ids as ``{id}``, weighted by how often they came.

    The 20 most frequent groups are kept; ``source`` says how many lines that stands for and how many were left out and why: not readable as
    log lines, other methods, or answered with an error (a scanner's 404s are no load). ``UsageError`` where nothing is left.
    """
    counts: Counter[str] = Counter()
    paths: dict[str, dict[str, None]] = {}
    seen: Counter[str] = Counter()
    for line in islice(lines, limit):
        seen["lines"] += 1
        match = _LINE.match(line) if len(line) <= LINE_MAX else None
        path = _path(match["target"]) if match else ""
        if match is None or not path:
            seen["unreadable"] += 1
        elif match["method"] != "GET":
            seen["of other methods"] += 1
        elif match["status"] >= "400":
            seen["answered with an error"] += 1
        else:
            _count(path, counts, paths, seen)
    if not counts:
        raise UsageError(
            "the access log has no request to send",
            why=_account(seen, 0),
            fix="give a log in combined format with successful GET requests, or write [[journeys]]",
        )
    kept = counts.most_common(STEPS_MAX)
    steps = tuple(Step(name=f"GET {name}", paths=tuple(paths[name]), weight=count) for name, count in kept)
    return Journeys(steps=steps, source=f"access log: {_account(seen, sum(count for _, count in kept))}")


def replay_from_log(lines: Iterable[str], limit: int, journeys: Journeys, duration_max_s: float | None = None) -> Replay:
    """The arrivals of a log with their real gaps, for the steps that ``journeys_from_log`` made of it; cut after ``duration_max_s``.

    A log has whole seconds: requests of one second are spread over it evenly, in their order. Lines may be a little out of order (they are written when
    an answer ends) and are sorted. ``UsageError`` where no line has a time.
    """
    places = {step.name: number for number, step in enumerate(journeys.steps)}
    seconds: dict[int, list[int]] = {}
    for line in islice(lines, limit):
        match = _LINE.match(line) if len(line) <= LINE_MAX else None
        if match is None or match["method"] != "GET" or match["status"] >= "400":
            continue
        place, at = places.get(f"GET {template(_path(match['target']))}"), second_of(line)
        if place is not None and at is not None:
            seconds.setdefault(at, []).append(place)
    if not seconds:
        raise UsageError("the access log has no arrival to replay", why="no line of the steps kept has a time", fix="give a log in combined format")
    first = min(seconds)
    times: list[float] = []
    order: list[int] = []
    for at in sorted(seconds):
        if (duration_max_s is not None and at - first >= duration_max_s) or len(times) + len(seconds[at]) > REPLAY_MAX:
            break
        came = seconds[at]
        times += [at - first + i / len(came) for i in range(len(came))]
        order += came
    return Replay(times_s=tuple(times), journeys=tuple(order))


def stages_of(replay: Replay, duration_s: float, rate_max_per_s: float) -> tuple[Stage, ...]:
    """The same curve of arrivals over another time: the rates of the log, its day pressed into ``duration_s``. Rates above the limit are cut to it."""
    span_s = replay.times_s[-1] + 1.0
    pieces = min(STAGES, max(1, int(span_s)))
    width_s = span_s / pieces
    counts = Counter(min(pieces - 1, int(at / width_s)) for at in replay.times_s)
    return tuple(Stage(duration_s=duration_s / pieces, level=min(rate_max_per_s, counts[i] / width_s), step=True) for i in range(pieces))


def second_of(line: str) -> int | None:
    """The time of a line in whole seconds since the epoch; None where it has none."""
    match = _TIME.search(line)
    if match is None:
        return None
    day, month, year, hour, minute, second, sign, zone_h, zone_m = match.groups()
    try:
        local = datetime(int(year), _MONTHS[month], int(day), int(hour), int(minute), min(59, int(second)), tzinfo=UTC)
    except (KeyError, ValueError):
        return None
    offset_s = (int(zone_h) * 3600 + int(zone_m) * 60) * (1 if sign == "+" else -1)
    return int(local.timestamp()) - offset_s


def _count(path: str, counts: Counter[str], paths: dict[str, dict[str, None]], seen: Counter[str]) -> None:
    name = template(path)
    if name not in counts and len(counts) >= TEMPLATES_MAX:
        seen["of too many different paths"] += 1
        return
    counts[name] += 1
    concrete = paths.setdefault(name, {})
    if len(concrete) < PATHS_MAX:
        concrete[path] = None


def _path(target: str) -> str:
    """The path with query of a request target; empty where it is none (``*``, a proxy's CONNECT)."""
    try:
        parts = urlsplit(target if not target.startswith("//") else "/" + target.lstrip("/"))
    except ValueError:
        return ""
    if not parts.path.startswith("/"):
        return ""
    return parts.path + (f"?{parts.query}" if parts.query else "")


def _account(seen: Counter[str], used: int) -> str:
    left_out = [f"{count} {reason}" for reason, count in seen.items() if reason != "lines"]
    return ", ".join([f"{used} of {seen['lines']} lines", *left_out])
