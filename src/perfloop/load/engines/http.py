"""The HTTP engine, seen from the loop: starts the processes that send the load, reads them, and ends them.

Latency counts from the intended start of a request, bodies are counted and unpacked only where a journey looks at them, and each request ends
in exactly one class: ok, connect, timeout_connect, timeout_first_byte, timeout, reset, protocol, status_4xx, status_5xx or check.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Generator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from perfloop.errors import CannotMeasure, UsageError
from perfloop.load.engines.base import End, Second
from perfloop.load.engines.child import Child
from perfloop.load.engines.requests import build_templates, parse_origin
from perfloop.load.engines.room import ports_missing, processes_needed
from perfloop.load.merge import merge_ends, merge_seconds
from perfloop.model.journey import Workload
from perfloop.model.run import CheckSamples, HistogramData, JourneySamples, StepSamples

ID = "http"
WORKER = "perfloop.load.engines.http_worker"
GO_LEAD_S = 0.1  # between the last worker's readiness and the common start
HOOK_MAX_S = 330.0


def available() -> str:
    """Empty where the engine can run here, else what is missing."""
    missing = [name for name in ("uvloop", "httptools") if find_spec(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else ""


def run(workload: Workload) -> Generator[Second, None, End]:
    """Sends one window of load from ``workload.workers`` child processes; yields the new counts of all of them each second.

    Closing the generator (or Ctrl-C in it) ends the children by their process ids. ``UsageError`` for requests that cannot be made,
    ``CannotMeasure`` where a child died, hung or could not go on.
    """
    _check(workload)
    return (yield from send(workload))


def send(workload: Workload) -> Generator[Second, None, End]:
    """The same for a workload that was checked, of whatever our own processes can ask."""
    check_ports(workload)
    children: list[Child] = []
    try:
        processes = max(workload.workers, processes_needed(_connections(workload)))
        parts = workload.sharded(processes) if processes > 1 else (workload,)
        together = len(parts) > 1 and workload.start_at_s is None
        for part in parts:
            children.append(Child(WORKER, workload.run_id))
            children[-1].tell(part.model_dump_json()[:-1] + (',"wait_for_go":true}' if together else "}"))
            if workload.start_at_s is not None:
                children[-1].wait_until(workload.start_at_s)
        return (yield from follow(children))
    finally:
        for child in children:
            child.close()


def run_hook(workload: Workload, name: str) -> str:
    """Runs ``setup`` or ``teardown`` of the workload's script once; what it returned, as JSON, empty for nothing."""
    child = Child(WORKER, workload.run_id)
    try:
        child.tell(workload.model_dump_json()[:-1] + f',"hook":"{name}"}}')
        child.patient_until_s += HOOK_MAX_S
        while not child.ended:
            _wait([child])
            for message in child.read():
                if message["type"] == "failed":
                    raise CannotMeasure(message["what"], why=message["why"], fix=message["fix"])
                return str(message["data"])
        raise child.died()
    finally:
        child.close()


def _connections(workload: Workload) -> int:
    """How many connections users have of their own."""
    return workload.shard.part(workload.users) if workload.own_connection is not False else 0


def _check(workload: Workload) -> None:
    if reason := available():
        raise CannotMeasure("the load engine cannot run", why=reason, fix="pip install uvloop httptools")
    if workload.http_version != "1.1" and find_spec("h2") is None:
        raise CannotMeasure(
            "HTTP/2 cannot be sent here", why="the library h2 is not installed", fix="pip install 'perfloop[http2]', or target.http_version = \"1.1\""
        )
    origin = parse_origin(workload.base_url)
    for step in (step for journey in workload.all_journeys for step in journey.steps):
        if not step.paths:
            raise UsageError(
                f"the step {step.name[:80]!r} is no HTTP request", why="it has sql or command", fix="give the address of a database or of Redis as the target"
            )
        build_templates(origin, step.method, step.paths, (*workload.headers, *step.headers), step.body)
    for what, file in (("CA", workload.ca_file or workload.tls.ca_file), ("certificate", workload.tls.cert_file), ("key", workload.tls.key_file)):
        if file and not Path(file).is_file():
            raise UsageError(f"the {what} file {file} does not exist", fix="give the path of a file in PEM form")


def check_ports(workload: Workload) -> None:
    """``CannotMeasure`` where there are too few local ports for a connection each."""
    users, sources = _connections(workload), len(workload.source_addresses)
    if ports := ports_missing(users, sources):
        raise CannotMeasure(
            f"{users} users with a connection each need as many local ports",
            why=f"there are {ports} from {max(1, sources)} address{'es' if sources > 1 else ''}",
            fix="connect from several addresses: measure.source_addresses (127.0.0.2, 127.0.0.3, … on loopback), or let users share connections",
        )


def follow(children: Sequence[Child]) -> Generator[Second, None, End]:
    """Reads all children until their windows are over: a second is told when each has told it, so that it is whole."""
    seconds: list[deque[Second]] = [deque() for _ in children]
    ends: list[End | None] = [None] * len(children)
    started = [0.0] * len(children)
    ready = 0
    while not all(ends):
        for child in _wait([child for child, end in zip(children, ends, strict=True) if end is None]):
            place = children.index(child)
            for message in child.read():
                match message["type"]:
                    case "ready":
                        ready += 1
                        if ready == len(children):
                            _go(children)
                    case "started":
                        started[place] = message["at"]
                    case "second":
                        seconds[place].append(_second(message))
                    case "end":
                        ends[place] = _ended(started[place], message)
                    case "failed":
                        raise CannotMeasure(message["what"], why=message["why"], fix=message["fix"])
            if child.ended and ends[place] is None:
                raise child.died()
        while any(seconds) and all(told or end for told, end in zip(seconds, ends, strict=True)):
            now = [told.popleft() for told in seconds if told]
            yield now[0] if len(now) == 1 else merge_seconds(now)
    known = [end for end in ends if end is not None]
    return known[0] if len(known) == 1 else merge_ends(known)


def _go(children: Sequence[Child]) -> None:
    at_s = time.time() + GO_LEAD_S
    for child in children:
        child.tell(repr(at_s))


def _wait(children: Sequence[Child]) -> list[Child]:
    """The children that have something to say; ``CannotMeasure`` where one is silent for too long."""
    until_s = min(child.patient_until_s for child in children)
    readable, _, _ = select.select([child.fd for child in children], [], [], max(0.0, until_s - time.monotonic()))
    if not readable:
        raise min(children, key=lambda child: child.patient_until_s).silent()
    return [child for child in children if child.fd in readable]


def _second(message: dict[str, Any]) -> Second:
    return Second(
        message["elapsed_s"],
        tuple(StepSamples.model_validate(step) for step in message["steps"]),
        tuple(JourneySamples.model_validate(journey) for journey in message["journeys"]),
        tuple(CheckSamples.model_validate(check) for check in message["checks"]),
        message["users"],
    )


def _ended(started_at: float, message: dict[str, Any]) -> End:
    return End(
        started_at=started_at,
        duration_s=message["duration_s"],
        lateness=HistogramData.model_validate(message["lateness"]),
        stopped_early=message["stopped_early"],
        retries=message["retries"],
        busy=message["busy"],
        first_errors=message["first_errors"],
        bin_s=message["bin_s"],
        arrived=tuple((b, c) for b, c in message["arrived"]),
        answered=tuple((b, c) for b, c in message["answered"]),
    )
