"""The HTTP/1.1 load engine's own process: one workload as a line of JSON on stdin, results as lines of JSON on stdout.

Lines out: ``started``, one ``second`` each second, then ``end``; or ``failed`` with what, why and fix. When stdin closes, the
parent is gone and so is this process, whatever it was doing. It is started by ``perfloop.load.engines.http``, not by hand.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import socket
import ssl
import sys
import time
from contextlib import suppress
from typing import Any

import uvloop

from perfloop.errors import PerfloopError
from perfloop.load.engines.recorder import Recorder
from perfloop.load.engines.requests import Origin, build_templates, parse_origin
from perfloop.load.engines.schedule import arrival_times, step_choices
from perfloop.load.engines.sender import OursError, Route, Sender

WORKLOAD_MAX_BYTES = 64 * 2**20
TICK_S = 0.02
LEAD_S = 0.05  # between the last preparation and the first possible arrival
GRACE_S = 5.0  # after the last timeout, before we stop waiting for our own bookkeeping
FILES_SPARE = 64
REALTIME_RATE_MAX_PER_S = 5_000  # about a tenth of a core


class Output:
    """Lines to a parent that may be busy: what the pipe does not take now is kept, and the load is never held up by it."""

    def __init__(self) -> None:
        self._left = bytearray()
        os.set_blocking(1, False)

    def line(self, message: dict[str, Any]) -> None:
        """One message."""
        self._left += json.dumps(message, separators=(",", ":")).encode() + b"\n"
        self.push()

    def push(self) -> None:
        """Writes what the pipe takes."""
        with suppress(BlockingIOError):
            while self._left:
                del self._left[: os.write(1, self._left)]

    def finish(self) -> None:
        """Writes all that is left, however long the parent takes; ends when it is gone (``BrokenPipeError``)."""
        os.set_blocking(1, True)
        self.push()


def main() -> int:
    """Reads the workload, sends the load, writes what came back; 0 when it ran, 3 when it could not."""
    output = Output()
    try:
        workload = json.loads(sys.stdin.buffer.readline(WORKLOAD_MAX_BYTES))
        _prepare(workload)
        uvloop.run(_window(workload, output))
    except PerfloopError as error:
        output.line({"type": "failed", "what": error.what, "why": error.why, "fix": error.fix})
    except OursError as error:
        output.line({"type": "failed", "what": "the load generator cannot go on", "why": str(error), "fix": error.fix})
    else:
        output.finish()
        return 0
    output.finish()
    return 3


def _prepare(workload: dict[str, Any]) -> None:
    """Own core, open files, and no pauses of ours: what would make the generator late."""
    if workload["cpu"] is not None and hasattr(os, "sched_setaffinity"):
        try:
            os.sched_setaffinity(0, {workload["cpu"]})
        except OSError as error:
            raise OursError(f"cannot run on core {workload['cpu']}: {error}", "choose a core that this process may use (taskset -p)") from error
    _hurry(workload["rate_per_s"])
    wanted = workload["connections_max"] + FILES_SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _hurry(rate_per_s: float) -> None:
    """Asks not to wait behind other processes, where that is permitted; refused, the lateness that is recorded tells.

    Beside a busy process on its core a generator of normal or raised priority starts requests up to 4 ms late, a real-time one none above 0.8 ms.
    At high rates it could keep the core from everybody else, so there only the priority is raised.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    if hasattr(os, "sched_setscheduler") and rate_per_s <= REALTIME_RATE_MAX_PER_S:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def _route(origin: Origin, ca_file: str) -> Route:
    try:
        found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise OursError(f"{origin.host} cannot be resolved: {error}", "check the host in the URL") from error
    # IPv4 first: a service that listens on one family only is most often there, and a refusal costs a try for each connection
    addresses = dict.fromkeys((str(a[4][0]), int(a[4][1])) for a in sorted(found, key=lambda a: a[0] != socket.AF_INET))
    if not origin.tls:
        return Route(tuple(addresses), None, "")
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise OursError(f"the CA file {ca_file} cannot be used: {error}", "give certificates in PEM form as target.ca_file") from error
    context.set_alpn_protocols(["http/1.1"])
    return Route(tuple(addresses), context, origin.host)


async def _window(workload: dict[str, Any], output: Output) -> None:
    origin = parse_origin(workload["base_url"])
    steps, duration_s = workload["steps"], workload["duration_s"]
    templates = [build_templates(origin, s["method"], s["paths"], (*workload["headers"], *s["headers"]), s["body"]) for s in steps]
    recorder = Recorder([s["name"] for s in steps], duration_s)
    sender = Sender(_route(origin, workload["ca_file"]), templates, recorder, workload["timeout_s"], workload["connections_max"], workload["error_rate_stop"])
    asyncio.get_running_loop().add_reader(0, _parent_gone)
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    start_s = time.monotonic() + LEAD_S
    output.line({"type": "started", "at": time.time() + LEAD_S})
    sender.begin(
        start_s,
        arrival_times(workload["rate_per_s"], duration_s, workload["arrival"], workload["seed"]),
        step_choices([s["weight"] for s in steps], workload["seed"]),
    )
    worked_s = time.process_time()
    try:
        await _run(sender, recorder, output, start_s, duration_s, workload["timeout_s"])
    finally:
        sender.close()
    output.line(recorder.second(time.monotonic() - start_s))
    output.line(recorder.end(sender.ended_at_s - start_s, sender.stopped_early, (time.process_time() - worked_s) / (time.monotonic() - start_s + LEAD_S)))


async def _run(sender: Sender, recorder: Recorder, output: Output, start_s: float, duration_s: float, timeout_s: float) -> None:
    next_line_s = start_s + 1.0
    last_s = start_s + duration_s + timeout_s + GRACE_S
    while not sender.finished:
        await asyncio.sleep(TICK_S)
        now_s = time.monotonic()
        sender.tick(now_s, start_s + duration_s)
        if sender.broken:
            raise sender.broken
        if now_s >= next_line_s:
            output.line(recorder.second(now_s - start_s))
            next_line_s = max(next_line_s + 1.0, now_s)
        output.push()
        if now_s > last_s:
            raise OursError("requests did not end in time", "lower the rate: this machine cannot keep up with it")


def _parent_gone() -> None:
    if not os.read(0, 4096):
        os._exit(130)  # nobody is left to hear anything, and no request more may go out


if __name__ == "__main__":
    sys.exit(main())
