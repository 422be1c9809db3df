"""Runs an existing locustfile on Locust, headless: its own users and tasks, every request told by a listener (``locust_listener.py``) that runs inside it.

Latencies are those of Locust: from when a user sent the request to its whole answer, as closed users see it.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from perfloop.errors import UsageError
from perfloop.load.engines import tools
from perfloop.load.engines.base import End, Second
from perfloop.model.journey import Workload

ID = "locust"
PARALLEL = False
FINE = {0: "", 1: ""}  # 1: there were failed requests, which are counted
LISTENER = Path(__file__).parent / "locust_listener.py"
_FIX = "pip install locust (or: pipx install locust), so that locust is on the PATH; or write the journeys as async def functions: perfloop.load.script"


def available() -> str:
    """Empty where Locust is there, else what is missing."""
    return "" if tools.program_of("locust") else "locust is not installed"


def run(workload: Workload) -> Generator[Second, None, End]:
    """Runs the locustfile with ``workload.users`` users for its duration. ``CannotMeasure`` where Locust is not there or could not run it."""
    if not workload.users:
        raise UsageError("a locustfile is run by users, not at a rate", fix="say how many: --users 50")
    if not tools.program_of("locust"):
        raise tools.missing("Locust", "the requests are a locustfile", _FIX)
    return (yield from tools.run(workload))


def command(plan: Mapping[str, Any], program: str, fd: int) -> tools.Command:
    """Locust without its web page; users come within the ramp-up, or at once."""
    users = plan["users"]
    argv = [
        program, "-f", f"{plan['script']['file']},{LISTENER}", "--headless", "--users", str(users), "--spawn-rate", f"{users / max(1.0, plan['ramp_up_s']):g}",
        "--run-time", f"{max(1, round(plan['duration_s']))}s", "--host", plan["base_url"], "--stop-timeout", "5", "--only-summary", "--loglevel", "WARNING",
    ]  # fmt: skip
    allowed = ",".join(tools.target_addresses(plan["base_url"]))
    return tools.Command(argv, {"PERFLOOP_LOCUST_OUT": f"/dev/fd/{fd}", "PERFLOOP_LOCUST_ALLOWED": allowed})


def take(line: bytes, told: tools.Told) -> None:
    """What the listener tells: the start, the end, and batches of requests."""
    message = json.loads(line)
    told.started_s = message.get("started") or told.started_s
    told.ended_s = message.get("ended") or told.ended_s
    told.users = message.get("users", told.users)
    for name, ended_s, latency_s, size, status, error, detail in message.get("requests", ()):
        column = told.recorder.column(name)
        column.sent += 1
        if status:
            column.statuses[status] = column.statuses.get(status, 0) + 1
        if error:
            column.failed(error, detail, size)
        else:
            column.bytes_in += size
            column.starts.append(ended_s - latency_s)
            column.ends.append(ended_s)
    for detail in message.get("exceptions", ()):
        told.recorder.first_errors.setdefault("script", detail[:300])
