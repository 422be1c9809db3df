"""The process that runs a load tool of others: starts it, reads it, bounds it, and ends it; speaks to its parent as ``http_worker`` does.

Its stdin closing, or its own death, ends the tool. It is started by ``perfloop.load.engines.tools``, not by hand.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib import import_module
from typing import Any, cast

from perfloop.errors import CannotMeasure, PerfloopError
from perfloop.host.processes import allowed_cpus, cpu_seconds
from perfloop.load.engines import tools
from perfloop.load.engines.http_worker import STOPPED, WORKLOAD_MAX_BYTES, Output
from perfloop.load.engines.recorder import Recorder
from perfloop.load.engines.sending import STOP_AFTER

LINE_MAX_BYTES = 4 * 2**20
START_MAX_S = 60.0
GRACE_S = 35.0  # a tool lets its users finish: k6 30 s, Locust as we say
END_WAIT_S = 8.0
_PR_SET_PDEATHSIG = 1


class _Run:
    def __init__(self, plan: dict[str, Any], output: Output) -> None:
        self.plan, self.output = plan, output
        self.tool = cast(tools.Tool, import_module(f"perfloop.load.engines.{plan['script']['tool']}"))
        self.told = tools.Told(Recorder(plan["duration_s"]))
        self.stopped_early = ""
        self.starting_cpu_s = 0.0  # what it used before it sent anything
        self.asked_s = 0.0  # when the tool was told to end
        self.left = b""
        self.read_fd, self.write_fd = os.pipe()
        os.set_inheritable(self.write_fd, True)
        command = self.tool.command(plan, tools.program_of(self.tool.ID), self.write_fd)
        self.complaints = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the process
        self.process = subprocess.Popen(
            list(command.argv),
            stdin=subprocess.DEVNULL,
            stdout=self.write_fd if command.on_stdout else self.complaints,
            stderr=self.complaints,
            env={**os.environ, **command.environment},
            pass_fds=(self.write_fd,),
            process_group=0,
            preexec_fn=_die_with_parent,
        )
        os.close(self.write_fd)
        self.began_s = time.time()

    def follow(self) -> None:
        """Until the tool has ended and all it wrote is read."""
        next_line_s = time.monotonic() + 1.0
        self.output.line({"type": "started", "at": self.began_s})
        while True:
            ready, _, _ = select.select([self.read_fd, 0], [], [], 0.1)
            if 0 in ready and not os.read(0, 4096):
                self.end(0.0)
                os._exit(130)  # nobody is left to hear anything
            if self.read_fd in ready and not self._read():
                return
            self._bound()
            if time.monotonic() >= next_line_s:
                next_line_s = max(next_line_s + 1.0, time.monotonic())
                self._second()
            self.output.push()

    def finish(self) -> None:
        """The last lines; ``CannotMeasure`` where the tool failed."""
        self.end(END_WAIT_S)
        code, recorder = self.process.returncode, self.told.recorder
        if (code not in self.tool.FINE or not self.told.started_s) and not self.stopped_early:
            raise CannotMeasure(
                f"{self.tool.ID} could not run {os.path.basename(self.plan['script']['file'])}",  # noqa: PTH119
                why=f"it ended with code {code}: {self._said()}",
                fix=f"run it with {self.tool.ID} alone first",
            )
        if note := self.tool.FINE.get(code, ""):
            recorder.first_errors.setdefault("thresholds", f"{self.tool.ID}: {note}")
        self._second()
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        cores = len(allowed_cpus()) if self.tool.PARALLEL else 1
        busy = (spent.ru_utime + spent.ru_stime - self.starting_cpu_s) / max(1e-9, self._elapsed_s()) / cores
        self.output.line(recorder.end(self._elapsed_s(), self.stopped_early, max(0.0, busy)))

    def stop(self, why: str) -> None:
        """Asks the tool to end; it finishes what is in flight."""
        if not self.asked_s:
            self.asked_s, self.stopped_early = time.monotonic(), why
            self._signal(signal.SIGINT)

    def end(self, patience_s: float) -> None:
        """It ends now, all of its processes."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience_s)
            return
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _read(self) -> bool:
        data = os.read(self.read_fd, 2**20)
        *lines, self.left = (self.left + data).split(b"\n")
        for line in lines:
            if line:
                started = self.told.started_s
                self.tool.take(line, self.told)
                if not started and self.told.started_s:
                    self.told.recorder.start_s = self.told.started_s
                    with suppress(CannotMeasure):
                        self.starting_cpu_s = cpu_seconds([self.process.pid])
        if len(self.left) > LINE_MAX_BYTES:
            raise CannotMeasure(f"{self.tool.ID} wrote a line without end", fix="report it")
        return bool(data)

    def _bound(self) -> None:
        recorder, now_s = self.told.recorder, time.time()
        if recorder.finished >= STOP_AFTER and recorder.failed > self.plan["error_rate_stop"] * recorder.finished:
            firsts = "; ".join(f"{name}: {detail}" for name, detail in recorder.first_errors.items())
            self.stop(f"{recorder.failed} of {recorder.finished} requests failed ({firsts})")
        over_s = now_s - self.told.started_s - self.plan["duration_s"] if self.told.started_s else 0.0
        if over_s > 0 and not self.plan["users"]:
            self.stop("")  # a script with its own idea of how long: this is the bound
        late = over_s > GRACE_S
        if late or (not self.told.started_s and now_s > self.began_s + START_MAX_S + GRACE_S):
            self.stop(f"{self.tool.ID} did not end in time")
        if self.asked_s and time.monotonic() > self.asked_s + END_WAIT_S:
            self._signal(signal.SIGKILL)

    def _second(self) -> None:
        self.output.line(self.told.recorder.second(self._elapsed_s(), self.told.users))

    def _elapsed_s(self) -> float:
        """Since the tool began to send; at most the duration asked for."""
        if not self.told.started_s:
            return 0.0
        passed_s = (self.told.ended_s or time.time()) - self.told.started_s
        return max(0.0, min(passed_s, float(self.plan["duration_s"])))

    def _said(self) -> str:
        self.complaints.seek(0, os.SEEK_END)
        self.complaints.seek(max(0, self.complaints.tell() - 2000))
        lines = [line for line in self.complaints.read().decode(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-4:])[-600:] or "it said nothing"

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def main() -> int:
    """Reads the workload, runs the tool, writes what came back; 0 when it ran, 3 when it could not."""
    output = Output()
    try:
        plan = json.loads(sys.stdin.buffer.readline(WORKLOAD_MAX_BYTES))
        if plan["cpu"] is not None:
            with suppress(OSError):
                os.sched_setaffinity(0, {plan["cpu"]})
        run = _Run(plan, output)
        signal.signal(signal.SIGTERM, lambda *_: run.stop(STOPPED))
        try:
            run.follow()
            run.finish()
        finally:
            run.end(0.0)
    except PerfloopError as error:
        output.line({"type": "failed", "what": error.what, "why": error.why, "fix": error.fix})
        output.finish()
        return 3
    output.finish()
    return 0


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
