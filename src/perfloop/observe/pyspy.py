"""Runs py-spy on one process, and reads what it wrote.

Two samplers run side by side, one that takes every thread (``--idle``) and one that takes only threads on a CPU: their ratio tells how much of a stack's
time is work and how much is waiting. Measured on a threaded FastAPI service at 40 requests/s, pinned to one core of two, for 4 s at 100 Hz, against the
service's own ``thread_time`` (57 samples of work expected):

- with ``--nonblocking`` the busy function had 57 active samples, and 16 of 495 sleeping ones were called active. The service is never stopped.
- without it, 23 to 30, and 66 to 75 sleeping ones were called active: stopping a process moves its threads off and onto the CPU, which is what we look at;
  and the two samplers disturb one another.
- each sampler cost about 0.1 core, the service's own CPU time did not change; under overload the totals were within 3 % of the service's own clocks.
- ``py-spy dump --json`` has both views in one, but 10 dumps a second cost 0.15 core for a tenth of the samples, and called 17 of 56 sleeping ones active.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from perfloop.host.files import read_limited
from perfloop.model.evidence import Unavailable

OUTPUT_MAX_BYTES = 256 * 2**20
STACKS_MAX = 20_000
DEPTH_MAX = 400
WRITE_MAX_S = 15.0
MESSAGE_MAX_BYTES = 64 * 1024

_THREAD = re.compile(r"^thread \((?P<id>[^)]*)\)(?:: (?P<name>.*))?$")

#: thread, frames from the outermost as (function, file, line)
RawStack = tuple[str, tuple[tuple[str, str, int], ...]]


def binary() -> str | None:
    """The py-spy program: beside this Python, else on PATH; None where it is not installed."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("py-spy")


def _dies_with_us() -> list[str]:
    """A prefix that has the kernel end the sampler with us: by util-linux, because code of our own between fork and exec is not safe beside threads."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv and sys.platform == "linux" else []


@dataclass(frozen=True)
class Ended:
    """How a sampler ended: what it printed, the seconds it sampled, and its output (empty where it wrote none)."""

    ok: bool
    message: str
    window_s: float
    errors: int
    text: str


class Sampler:
    """One ``py-spy record`` at work. It ends by itself after ``duration_max_s``, and at once when the thread that started it ends (perfloop was killed)."""

    def __init__(self, program: str, pid: int, rate_hz: float, idle: bool, duration_max_s: float, scratch_dir: str) -> None:
        handle, self._output = tempfile.mkstemp(prefix=f"stacks-{pid}-", suffix=".raw", dir=scratch_dir or None)
        os.close(handle)
        argv = [
            *_dies_with_us(),
            program,
            "record",
            "--pid",
            str(pid),
            "--rate",
            str(max(1, round(rate_hz))),
            "--format",
            "raw",
            "--full-filenames",
            "--threads",
            "--nonblocking",
        ]
        argv += ["--duration", str(max(1, round(duration_max_s))), "--output", self._output, *(["--idle"] if idle else [])]
        # stderr joins stdout: "Sampling process …" and the error texts come on either, by version.
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        self._said = b""
        self._began_s = time.monotonic()
        self._window_s, self._duration_max_s = 0.0, duration_max_s

    def wait_sampling(self, timeout_s: float) -> bool:
        """Wait until it says that it samples; False where it ended instead, or said nothing in time."""
        limit = time.monotonic() + timeout_s
        while b"Sampling process" not in self._said:
            if time.monotonic() > limit or not self._hear(limit - time.monotonic()):
                return False
        self._began_s = time.monotonic()
        return True

    def interrupt(self) -> None:
        """Tell it to write what it has (SIGINT)."""
        self._window_s = min(time.monotonic() - self._began_s, self._duration_max_s)
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def result(self) -> Ended:
        """Wait for its output; call :meth:`interrupt` first."""
        limit = time.monotonic() + WRITE_MAX_S
        while time.monotonic() < limit and self._hear(limit - time.monotonic()):
            pass
        try:
            code = self._process.wait(max(0.1, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            return Ended(False, f"py-spy wrote nothing within {WRITE_MAX_S:g} s", self._window_s, 0, "")
        message = self._said.decode(errors="replace")
        errors = re.search(r"Errors: (\d+)", message)
        text = read_limited(self._output, OUTPUT_MAX_BYTES).decode(errors="replace")
        return Ended(code == 0 and "Wrote" in message, message, self._window_s, int(errors[1]) if errors else 0, text)

    def close(self) -> None:
        """End it for sure, and remove its file."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        Path(self._output).unlink(missing_ok=True)

    @property
    def said(self) -> str:
        """What it printed so far."""
        return self._said.decode(errors="replace")

    def _hear(self, timeout_s: float) -> bool:
        stream = self._process.stdout
        if stream is None or not select.select([stream], [], [], max(0.0, timeout_s))[0]:
            return False
        data = os.read(stream.fileno(), 4096)
        if len(self._said) < MESSAGE_MAX_BYTES:
            self._said += data
        return bool(data)


def read_stacks(text: str) -> Iterator[tuple[RawStack, int]]:
    """The stacks of a ``--format raw --threads --full-filenames`` output with their sample counts; lines that are none are skipped."""
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        parts = stack.split(";")
        if not count.isdigit() or not stack:
            continue
        thread = "?"
        while parts and (match := _THREAD.match(parts[0])):
            thread = f"{match['name']} ({match['id']})" if match["name"] else f"thread {match['id']}"
            parts = parts[1:]
        yield (thread, tuple(_frame(part) for part in parts[-DEPTH_MAX:])), int(count)


def _frame(text: str) -> tuple[str, str, int]:
    """``function (file:line)``; the line may be missing, the file may hold spaces and parentheses."""
    function, opened, place = text.partition(" (")
    if not opened or not place.endswith(")"):
        return text, "", 0
    file, colon, line = place[:-1].rpartition(":")
    return (function, file, int(line)) if colon and line.isdigit() else (function, place[:-1], 0)


def why_not(pid: int, message: str, exists: bool, same_user: bool, yama_scope: int, in_container: bool) -> Unavailable:
    """What stands in the way, in the words of who can change it. ``message`` is what py-spy printed; the rest is what the kernel told."""
    subject = f"cannot profile pid {pid}"
    if not exists:
        return Unavailable(probe="stacks", reason=f"{subject}: the process does not run any more", fix="start the service again, then run the command again")
    if not re.search(r"permission denied|operation not permitted|EPERM|root", message, re.I):
        last = next((line.strip() for line in message.splitlines() if line.strip()), "it printed nothing")
        return Unavailable(probe="stacks", reason=f"{subject}: py-spy cannot read it: {last[:200]}", fix=f"see what it says: py-spy dump --pid {pid}")
    if in_container:
        return Unavailable(
            probe="stacks",
            reason=f"{subject}: ptrace is not permitted in this container; CAP_SYS_PTRACE is missing",
            fix="docker run --cap-add SYS_PTRACE … (Kubernetes: securityContext.capabilities.add: [SYS_PTRACE])",
        )
    if not same_user:
        return Unavailable(
            probe="stacks",
            reason=f"{subject}: it belongs to another user, and ptrace across users needs root",
            fix="run perfloop as root, or as the user of the service: sudo -u USER perfloop …",
        )
    if yama_scope > 2:
        return Unavailable(
            probe="stacks",
            reason=f"{subject}: ptrace is switched off until the next boot (Yama ptrace_scope is 3)",
            fix="set kernel.yama.ptrace_scope = 1 in /etc/sysctl.d and reboot",
        )
    if yama_scope > 0:
        return Unavailable(
            probe="stacks",
            reason=f"{subject}: ptrace is limited to one's own children (Yama ptrace_scope is {yama_scope})",
            fix="run perfloop as root, or: sudo sysctl kernel.yama.ptrace_scope=0",
        )
    return Unavailable(
        probe="stacks",
        reason=f"{subject}: ptrace is not permitted (CAP_SYS_PTRACE is missing, or the process is not dumpable)",
        fix="run perfloop as root, or allow SYS_PTRACE for it (systemd: AmbientCapabilities=CAP_SYS_PTRACE)",
    )
