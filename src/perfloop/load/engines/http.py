"""The HTTP/1.1 engine, seen from the loop: starts the child process that sends the load, reads it, and ends it.

Latency counts from the intended start of a request, redirects are not followed (3xx is a success), bodies are counted and not
decompressed, and each request ends in exactly one class: ok, connect, timeout, reset, protocol, status_4xx or status_5xx.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import perfloop
from perfloop.errors import CannotMeasure, UsageError
from perfloop.load.engines.base import End, Second
from perfloop.load.engines.requests import build_templates, parse_origin
from perfloop.model.journey import Workload
from perfloop.model.run import CheckSamples, HistogramData, JourneySamples, StepSamples

ID = "http"
WORKER = "perfloop.load.engines.http_worker"
SILENCE_MAX_S = 10.0  # the worker writes every second, also while it only waits
START_MAX_S = 30.0
LINE_MAX_BYTES = 64 * 2**20
END_WAIT_S = 2.0
_PIPE_BYTES = 2**20  # room for what is written while our reader does something else
_F_SETPIPE_SZ = 1031  # fcntl.F_SETPIPE_SZ of Linux


def available() -> str:
    """Empty where the engine can run here, else what is missing."""
    missing = [name for name in ("uvloop", "httptools") if find_spec(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else ""


def run(workload: Workload) -> Generator[Second, None, End]:
    """Sends one window of load from a child process; yields the new counts each second.

    Closing the generator (or Ctrl-C in it) ends the child by its process id. ``UsageError`` for requests that cannot be made,
    ``CannotMeasure`` where the child died, hung or could not go on.
    """
    if reason := available():
        raise CannotMeasure("the load engine cannot run", why=reason, fix="pip install uvloop httptools")
    _check(workload)
    with tempfile.TemporaryFile() as complaints:
        child = _start(complaints)
        try:
            return (yield from _follow(child, workload, complaints))
        finally:
            _end(child)


def _check(workload: Workload) -> None:
    origin = parse_origin(workload.base_url)
    for step in (step for journey in workload.all_journeys for step in journey.steps):
        build_templates(origin, step.method, step.paths, (*workload.headers, *step.headers), step.body)
    if workload.ca_file and not Path(workload.ca_file).is_file():
        raise UsageError(f"the CA file {workload.ca_file} does not exist", fix="give the path of certificates in PEM form as target.ca_file")


def _start(complaints: IO[bytes]) -> subprocess.Popen[bytes]:
    # the child must find the same perfloop, also where it is not installed but on a relative path
    paths = [str(Path(perfloop.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    child = subprocess.Popen(
        [sys.executable, "-m", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        env=environment,
        process_group=0,  # Ctrl-C in the terminal reaches us, and we end the child
    )
    assert child.stdout is not None
    with suppress(OSError):
        fcntl.fcntl(child.stdout, _F_SETPIPE_SZ, _PIPE_BYTES)
    return child


def _follow(child: subprocess.Popen[bytes], workload: Workload, complaints: IO[bytes]) -> Generator[Second, None, End]:
    assert child.stdin is not None
    try:
        child.stdin.write(workload.model_dump_json().encode() + b"\n")
        child.stdin.flush()
    except BrokenPipeError as error:
        raise _died(child, complaints) from error
    started_at = 0.0
    for message in _messages(child, complaints):
        match message["type"]:
            case "started":
                started_at = message["at"]
            case "second":
                yield _second(message)
            case "end":
                return _ended(started_at, message)
            case "failed":
                raise CannotMeasure(message["what"], why=message["why"], fix=message["fix"])
    raise _died(child, complaints)


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


def _messages(child: subprocess.Popen[bytes], complaints: IO[bytes]) -> Generator[dict[str, Any], None, None]:
    """Lines of the child until it closes its output; ``CannotMeasure`` where it is silent for too long."""
    assert child.stdout is not None
    fd, left = child.stdout.fileno(), b""
    patience_s = START_MAX_S
    heard_s = time.monotonic()
    while True:
        ready, _, _ = select.select([fd], [], [], max(0.0, heard_s + patience_s - time.monotonic()))
        if not ready:
            raise CannotMeasure(
                "the load generator does not answer", why=f"it was silent for {patience_s:.0f} s", fix="give this machine a free core, or lower the rate"
            )
        data = os.read(fd, 2**20)
        if not data:
            return
        *lines, left = (left + data).split(b"\n")
        if len(left) > LINE_MAX_BYTES:
            raise _died(child, complaints)
        for line in lines:
            yield json.loads(line)
        heard_s, patience_s = time.monotonic(), SILENCE_MAX_S


def _died(child: subprocess.Popen[bytes], complaints: IO[bytes]) -> CannotMeasure:
    """The error for a child that ended, or talks nonsense, before its window was over."""
    _end(child)
    code = child.returncode
    complaints.seek(0, os.SEEK_END)
    complaints.seek(max(0, complaints.tell() - 2000))
    said = complaints.read().decode(errors="replace").strip().splitlines()
    how = f"it was ended by signal {-code}" if code is not None and code < 0 else f"it ended with code {code}"
    why = f"{how}: {said[-1]}" if said else how
    return CannotMeasure(
        "the load generator ended before its window did",
        why=why,
        fix="run it again; if it was killed for memory (signal 9), lower the rate or measure.connections_max",
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends the child: closing its stdin is enough for a sound one; the others are killed by their process id."""
    assert child.stdin is not None
    assert child.stdout is not None
    with suppress(OSError):
        child.stdin.close()
    child.stdout.close()
    try:
        child.wait(END_WAIT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
