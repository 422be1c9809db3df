"""Queries, cache calls and outgoing HTTP calls of each request, with file and line, from the agent inside a service that ``perfloop run`` started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from perfloop.errors import CannotMeasure
from perfloop.host.agent_link import agent_counts, has_agent
from perfloop.model.calls import CallCount, CallKind, CallPlace, CallsObservation, RequestCalls
from perfloop.model.evidence import Unavailable
from perfloop.model.target import Target
from perfloop.observe.base import Access, Nothing, Observation

ID = "calls"
NEEDS = "a Python service that was started with perfloop run -- COMMAND; perfloop as the same user or root, in the same network namespace"
COST = "under 2 microseconds a call, all the time that the service runs; asking takes a millisecond"

CALLS_MAX, NAMES_MAX, PLACES_MAX = 200, 100, 5


class CallsSession:
    """Counts at the beginning and at the end; what lies between is the window's."""

    interval_s = None

    def __init__(self, pids: Sequence[int]) -> None:
        self._before: dict[int, dict[str, Any]] = {key: {} for key in pids}

    def begin(self) -> None:
        """Read the counters."""
        for pid in self._before:
            self._before[pid] = agent_counts(pid)

    def sample(self) -> None:
        """Nothing between."""

    def finish(self) -> Sequence[Observation]:
        """Read them again."""
        found: list[Observation] = []
        for pid, before in self._before.items():
            try:
                found.append(between(pid, before, agent_counts(pid)))
            except CannotMeasure as error:  # a worker that has ended meanwhile
                found.append(Unavailable(probe=ID, reason=f"{error.what}: {error.why}"))
        return found

    def close(self) -> None:
        """Nothing is held."""


def start(_target: Target, access: Access) -> CallsSession | Nothing:
    """Find the processes with an agent. Without any there is nothing to see, and nothing is missing: sockets and stacks tell of calls too."""
    pids = [pid for pid in access.pids if has_agent(pid)]
    return CallsSession(pids) if pids else Nothing()


def between(pid: int, before: Mapping[str, Any], after: Mapping[str, Any]) -> CallsObservation:
    """What was counted between two answers of one agent."""
    sites = [(site["kind"], site["text"]) for site in after.get("sites", ())]
    old_places = {(site["kind"], site["text"]): _places(site) for site in before.get("sites", ())}
    places = [_newer(old_places.get(key, {}), _places(site)) for key, site in zip(sites, after.get("sites", ()), strict=True)]
    old_sites = [(site["kind"], site["text"]) for site in before.get("sites", ())]
    old = {entry["name"]: entry for entry in before.get("requests", ())}
    entries = [_request(entry, old.get(entry["name"], {}), sites, old_sites, places) for entry in after.get("requests", ())]
    outside = _calls(after.get("outside", ()), before.get("outside", ()), sites, old_sites, places)
    entries += [RequestCalls(name="", requests=0, seconds=0.0, calls=outside)] if outside else []
    return CallsObservation(
        window_s=max(0.0, (after.get("now_ns", 0) - before.get("now_ns", 0)) / 1e9),
        source="agent",
        pid=pid,
        requests=tuple(sorted((entry for entry in entries if entry.requests or entry.calls), key=lambda entry: -entry.requests)[:NAMES_MAX]),
        failures=max(0, int(after.get("failures", 0)) - int(before.get("failures", 0))),
    )


Site = tuple[str, str]
Lines = tuple[tuple[str, int, str], ...]


def _request(entry: Mapping[str, Any], old: Mapping[str, Any], sites: list[Site], old_sites: list[Site], places: list[dict[Lines, int]]) -> RequestCalls:
    return RequestCalls(
        name=str(entry["name"]),
        requests=entry["requests"] - old.get("requests", 0),
        seconds=(entry["ns"] - old.get("ns", 0)) / 1e9,
        calls=_calls(entry["calls"], old.get("calls", ()), sites, old_sites, places),
    )


def _calls(now: Sequence[Any], before: Sequence[Any], sites: list[Site], old_sites: list[Site], places: list[dict[Lines, int]]) -> tuple[CallCount, ...]:
    was = {old_sites[number]: rest for number, *rest in before}
    found = []
    for number, calls, requests, most, ns in now:
        kind, text = sites[number]
        old_calls, old_requests, _, old_ns = was.get((kind, text), (0, 0, 0, 0))
        if calls > old_calls:
            ways = sorted(places[number].items(), key=lambda item: -item[1])[:PLACES_MAX]
            found.append(
                CallCount(
                    kind=cast(CallKind, kind),
                    text=text,
                    calls=calls - old_calls,
                    requests=requests - old_requests,
                    most=most,
                    seconds=max(0.0, (ns - old_ns) / 1e9),
                    places=tuple(CallPlace(lines=lines, seen=seen) for lines, seen in ways),
                )
            )
    return tuple(sorted(found, key=lambda call: -call.calls)[:CALLS_MAX])


def _places(site: Mapping[str, Any]) -> dict[Lines, int]:
    return {tuple((str(file), int(line), str(function)) for file, line, function in lines): int(seen) for lines, seen in site["places"]}


def _newer(before: Mapping[Lines, int], after: Mapping[Lines, int]) -> dict[Lines, int]:
    """The ways that were looked up in the window; all there are where it was none (only the first calls, and each 16th, are looked up)."""
    new = {lines: seen - before.get(lines, 0) for lines, seen in after.items() if seen > before.get(lines, 0)}
    return new or dict(after)
