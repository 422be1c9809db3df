"""The child process of an engine: started, told its workload, read line by line, and ended by its process id."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import perfloop
from perfloop.errors import CannotMeasure

SILENCE_MAX_S = 10.0  # the worker writes every second, also while it only waits
START_MAX_S = 30.0
LINE_MAX_BYTES = 64 * 2**20
END_WAIT_S = 2.0
_PIPE_BYTES = 2**20  # room for what is written while our reader does something else
_F_SETPIPE_SZ = 1031  # fcntl.F_SETPIPE_SZ of Linux


class Child:
    """One worker. ``run_id`` stands among its arguments, so that ``perfloop stop`` finds it. ``close`` ends it, whatever it does."""

    def __init__(self, module: str, run_id: str = "") -> None:
        # the child must find the same perfloop, also where it is not installed but on a relative path
        paths = [str(Path(perfloop.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, "--run", run_id or "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=environment,
            process_group=0,  # Ctrl-C in the terminal reaches us, and we end the child
        )
        assert self._process.stdout is not None
        self.fd = self._process.stdout.fileno()
        with suppress(OSError):
            fcntl.fcntl(self.fd, _F_SETPIPE_SZ, _PIPE_BYTES)
        self._left = b""
        self.patient_until_s = time.monotonic() + START_MAX_S
        self._quiet_until_s = 0.0
        self.ended = False

    def tell(self, line: str) -> None:
        """Writes one line to it; ``CannotMeasure`` where it is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self.died() from error

    def wait_until(self, epoch_s: float) -> None:
        """It was told to begin at this time, and may be silent until then."""
        self._quiet_until_s = time.monotonic() + (epoch_s - time.time())
        self.patient_until_s = max(self.patient_until_s, self._quiet_until_s + START_MAX_S)

    def read(self) -> list[dict[str, Any]]:
        """What it has written since the last time; call when ``fd`` is readable. Empty at its end."""
        data = os.read(self.fd, 2**20)
        if not data:
            self.ended = True
            return []
        *lines, self._left = (self._left + data).split(b"\n")
        if len(self._left) > LINE_MAX_BYTES:
            raise self.died()
        if self._quiet_until_s < time.monotonic():
            self.patient_until_s = time.monotonic() + SILENCE_MAX_S
        return [json.loads(line) for line in lines]

    def silent(self) -> CannotMeasure:
        """The error for a child that has written nothing for too long."""
        return CannotMeasure("the load generator does not answer", why="it was silent for too long", fix="give this machine a free core, or lower the rate")

    def died(self) -> CannotMeasure:
        """The error for a child that ended, or talks nonsense, before its window was over."""
        self._end()
        code = self._process.returncode
        self._complaints.seek(0, os.SEEK_END)
        self._complaints.seek(max(0, self._complaints.tell() - 2000))
        said = self._complaints.read().decode(errors="replace").strip().splitlines()
        how = f"it was ended by signal {-code}" if code is not None and code < 0 else f"it ended with code {code}"
        return CannotMeasure(
            "the load generator ended before its window did",
            why=f"{how}: {said[-1]}" if said else how,
            fix="run it again; if it was killed for memory (signal 9), lower the users, the rate or measure.connections_max",
        )

    def close(self) -> None:
        """Ends it."""
        self._end()
        self._complaints.close()

    def _end(self) -> None:
        """Closing its stdin is enough for a sound one; the others are killed by their process id."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError):
            process.stdin.close()
        process.stdout.close()
        try:
            process.wait(END_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
