"""Do two arms answer the same: status, type and body of each step's first paths, one request each. Faster but wrong is no gain."""

from __future__ import annotations

from perfloop.errors import PerfloopError
from perfloop.host.http import fetch
from perfloop.loop.measure import Meter

PATHS_MAX = 3


def differing(a: Meter, b: Meter) -> tuple[str, ...]:
    """Steps (GET only) whose answers differ between the arms, with how; a step whose answers differ within one arm (a clock, an id) is judged by status alone."""
    found = []
    for step in a.steps:
        if step.method != "GET":
            continue
        for path in step.paths[:PATHS_MAX]:
            one, again, other = (_answer(meter, path) for meter in (a, a, b))
            if one[0] != other[0]:
                found.append(f"{step.name}: status {one[0]} and {other[0]} for {path}")
            elif one == again and one[1] != other[1]:
                found.append(f"{step.name}: another body for {path}")
    return tuple(dict.fromkeys(found))


def _answer(meter: Meter, path: str) -> tuple[int | str, bytes]:
    try:
        answer = fetch(meter.target.url.rstrip("/") + path, headers=meter.headers)
    except PerfloopError as error:
        return error.what, b""
    return answer.status, answer.body
