"""Journeys from an access log in combined (or common) format, as nginx and Apache write it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from urllib.parse import urlsplit

from perfloop.errors import UsageError
from perfloop.load.engines.labels import template
from perfloop.model.journey import Journeys, Step

STEPS_MAX = 20
PATHS_MAX = 500  # concrete paths kept of one step
LINE_MAX = 16_384
TEMPLATES_MAX = 10_000  # more different ones than this is noise, and is counted as such
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
