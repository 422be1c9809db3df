"""What requests called: database, cache and HTTP calls with their count per request, from the in-process agent or from traces."""

from __future__ import annotations

from typing import Literal

from perfloop.model.base import Word

CallKind = Literal["database", "cache", "http"]


class CallPlace(Word):
    """Lines of the application that led to a call, innermost first, and how many of the looked-up calls came that way."""

    lines: tuple[tuple[str, int, str], ...]  # file, line, function
    seen: int


class CallCount(Word):
    """One normalised call. ``calls`` in ``requests`` of the observed requests, at most ``most`` in one of them; ``seconds`` summed, of all calls."""

    kind: CallKind
    text: str  # a statement without literals; a command with the pattern of its key; method, host and path pattern
    calls: int
    requests: int
    most: int
    seconds: float
    places: tuple[CallPlace, ...] = ()


class RequestCalls(Word):
    """Requests of one name, and what they called, most called first."""

    name: str  # method and path with ids as {id}; empty: outside of any request
    requests: int
    seconds: float
    calls: tuple[CallCount, ...] = ()


class CallsObservation(Word):
    """What the requests of one process (``pid``) or of one traced service (``pid`` 0) called within the window."""

    window_s: float
    source: Literal["agent", "traces"]
    pid: int = 0
    service: str = ""
    requests: tuple[RequestCalls, ...] = ()
    failures: int = 0  # calls or spans that could not be counted
