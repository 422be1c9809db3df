"""Counting: what a call costs us is a clock, a context variable and two dictionaries.

A statement's line is looked up at its first calls and at each 16th later on: walking the stack is the dear part, and a repeated call comes from the same place.
"""

from __future__ import annotations

import re
import sys
import sysconfig
import time
from _thread import allocate_lock
from contextvars import ContextVar

TEXTS_MAX = 2000  # distinct texts kept; beyond it is counted as (other)
RAW_MAX = 5000  # raw texts whose cleaned form is remembered
NAMES_MAX = 300
PLACES_MAX = 40
TEXT_MAX = 2000
FRAMES_MAX = 120
PLACE_FRAMES = 4  # lines of the application kept of one stack: a helper, and who calls it in a loop
FIRST, EACH = 24, 15  # the place of the first calls, then of each 16th (a mask)
OTHER = "(other)"

now = time.perf_counter_ns


class Site:
    """One normalised text of one kind of call."""

    __slots__ = ("kind", "places", "seen", "text")

    def __init__(self, kind, text):
        self.kind, self.text, self.seen, self.places = kind, text, 0, {}


class Request:
    """One request at work."""

    __slots__ = ("calls", "method", "path", "started")

    def __init__(self, method, path):
        self.method, self.path, self.started, self.calls = method, path, now(), {}


class Totals:
    """Requests of one name, and what they called: site → [calls, requests that called, most in one, nanoseconds]."""

    __slots__ = ("calls", "ns", "requests")

    def __init__(self):
        self.requests, self.ns, self.calls = 0, 0, {}


current = ContextVar("perfloop_request", default=None)
_lock = allocate_lock()
_raw: dict = {"database": {}, "cache": {}, "http": {}}
_sites: dict = {}
_outside: dict = {}
_totals: dict = {}
_names: dict = {}
_is_library: dict = {}
failures: list = [0, ""]  # how many, and the last

_LIBRARY = tuple(
    {path for name in ("stdlib", "platstdlib", "purelib", "platlib") for path in (sysconfig.get_paths().get(name),) if path}
    | {sys.prefix + "/lib", sys.base_prefix + "/lib"}
)
_STRING = re.compile(r"'(?:[^'\\]|''|\\.)*'|\$(\w*)\$.*?\$\1\$", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w$:%])[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?\b")
_LIST = re.compile(r"\(\s*(?:%s|\?|:\w+|\$\d+|\$n)(?:\s*,\s*(?:%s|\?|:\w+|\$\d+|\$n))+\s*\)")
_SPACE = re.compile(r"\s+")
_PART = re.compile(r"(?<=[/:._-])(?:\d+|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|[0-9a-fA-F]{16,}|[A-Za-z0-9_-]{32,})(?=[/:._-]|$)")


def failed(error):
    """Something in here went wrong; the service never hears of it."""
    failures[0] += 1
    failures[1] = repr(error)[:300]


def note(kind, text, started):
    """One call ended. Never raises."""
    try:
        spent = now() - started
        request = current.get()
        calls = _outside if request is None else request.calls
        site = _raw[kind].get(text) or _learn(kind, text)
        entry = calls.get(site)
        if entry is None:
            entry = calls[site] = [0, 0]
        entry[0] += 1
        entry[1] += spent
        seen = site.seen = site.seen + 1
        if not seen & EACH or seen <= FIRST:
            _place(site, sys._getframe(2))
    except Exception as error:
        failed(error)


def begin(method, path):
    """A request begins; None inside of another one, where a framework runs in a server that we know too."""
    try:
        if current.get() is not None:
            return None
        return current.set(Request(method, path))
    except Exception as error:
        failed(error)
        return None


def end(token):
    """It ended: its counts are added to those of its name."""
    if token is None:
        return
    try:
        request = current.get()
        current.set(None)  # a token of another context cannot be reset
        if request is None:
            return
        spent = now() - request.started
        with _lock:
            name = _name(request.method, request.path)
            totals = _totals.get(name)
            if totals is None:
                name = name if len(_totals) < NAMES_MAX else OTHER
                totals = _totals.setdefault(name, Totals())
            totals.requests += 1
            totals.ns += spent
            for site, (count, ns) in list(request.calls.items()):
                entry = totals.calls.get(site)
                if entry is None:
                    totals.calls[site] = [count, 1, count, ns]
                else:
                    entry[0] += count
                    entry[1] += 1
                    entry[2] = max(entry[2], count)
                    entry[3] += ns
    except Exception as error:
        failed(error)


def snapshot():
    """All counts since the start, as plain data."""
    with _lock:
        index = {id(site): number for number, site in enumerate(_sites.values())}
        requests = [
            {"name": name, "requests": totals.requests, "ns": totals.ns, "calls": [[index[id(site)], *entry] for site, entry in totals.calls.items()]}
            for name, totals in _totals.items()
        ]
        outside = [[index[id(site)], entry[0], 0, 0, entry[1]] for site, entry in list(_outside.items())]
        sites = [
            {"kind": site.kind, "text": site.text, "places": [[[list(frame) for frame in place], count] for place, count in list(site.places.items())]}
            for site in _sites.values()
        ]
    return {"requests": requests, "outside": outside, "sites": sites, "failures": failures[0], "failure": failures[1]}


def forget():
    """Start from nothing: a forked worker counts for itself."""
    global _lock
    _lock = allocate_lock()
    for table in (_sites, _outside, _totals, *_raw.values()):
        table.clear()
    failures[:] = [0, ""]


def clean(kind, text):
    """The text without literals, keys and ids, so that the same statement is one."""
    if kind == "database":
        text = _NUMBER.sub("?", _STRING.sub("?", text[: 4 * TEXT_MAX]))
        text = _LIST.sub("(…)", text)
        return _SPACE.sub(" ", text).strip()[:TEXT_MAX]
    host, slash, path = text[:TEXT_MAX].partition("/") if kind == "http" else ("", "", text[:TEXT_MAX])
    return host + _PART.sub("{id}", slash + path)


def _learn(kind, text):
    raw = _raw[kind]
    if type(text) is not str:
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    cleaned = clean(kind, text)
    with _lock:
        site = _sites.get((kind, cleaned))
        if site is None:
            key = (kind, cleaned) if len(_sites) < TEXTS_MAX else (kind, OTHER)
            site = _sites.setdefault(key, Site(*key))
        if len(raw) >= RAW_MAX:
            raw.clear()
        raw[text] = site
    return site


def _place(site, frame):
    """The innermost lines of the application that led here, innermost first."""
    mine = []
    for _ in range(FRAMES_MAX):
        if frame is None or len(mine) == PLACE_FRAMES:
            break
        file = frame.f_code.co_filename
        library = _is_library.get(file)
        if library is None:
            library = _is_library[file] = _library(file)
        if not library:
            mine.append((file, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    key, places = tuple(mine), site.places
    if mine and (key in places or len(places) < PLACES_MAX):
        places[key] = places.get(key, 0) + 1


def _library(file):
    return file.startswith((*_LIBRARY, "<")) or "site-packages" in file or "dist-packages" in file or "perfloop_agent" in file


def _name(method, path):
    key = (method, path)
    name = _names.get(key)
    if name is None:
        if len(_names) >= RAW_MAX:
            _names.clear()
        name = _names[key] = "%s %s" % (method, _PART.sub("{id}", str(path).partition("?")[0][:TEXT_MAX]))
    return name
