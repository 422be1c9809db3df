"""Starts a tap as a process of its own, reads its counters, sets its delay, and ends it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from perfloop.errors import CannotMeasure

ANSWER_S = 5.0
STOP_S = 3.0
LINE_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class TapCounters:
    """What went through a tap. ``round_trips``: turns of the conversation in which the client spoke, over all connections; ``per_connection``
    those of the last 1000 connections that ended, ``live`` of the open ones."""

    connections: int
    open: int
    refused: int
    bytes_up: int
    bytes_down: int
    round_trips: int
    delay_ms: float
    per_connection: tuple[int, ...]
    live: tuple[int, ...]


class Tap:
    """Context manager around one tap on ``host:port``; connect to ``(tap.host, tap.port)`` instead. It ends with this process, however that ends."""

    def __init__(self, host: str, port: int, delay_ms: float = 0.0) -> None:
        self.to = (host, port)
        self.delay_ms = delay_ms
        self.host, self.port = "127.0.0.1", 0
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def __enter__(self) -> Tap:
        """Start it; ``CannotMeasure`` where it does not."""
        host, port = self.to
        command = [sys.executable, "-m", "perfloop.wire.tap", "--to", f"{host}:{port}", "--delay-ms", f"{self.delay_ms:g}"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            self.port = int(self._answer()["port"])
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The tap's process; None where it does not run."""
        return self._process.pid if self._process else None

    def counters(self) -> TapCounters:
        """What went through so far. ``CannotMeasure`` where the tap is gone."""
        return _counters(self._command("counters"))

    def set_delay(self, delay_ms: float) -> TapCounters:
        """Delay each client's turn by so many milliseconds from now on; returns the counters at that moment."""
        return _counters(self._command(f"delay {delay_ms:g}"))

    def stop(self) -> None:
        """End it and its connections; returns when it is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.close()
        except OSError:
            pass  # it was gone before
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _command(self, line: str) -> dict[str, Any]:
        if self._process is None:
            raise CannotMeasure("the tap is not running", fix="use it as a context manager")
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._gone() from error
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        """One line of JSON, within 5 s."""
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + ANSWER_S
        while b"\n" not in self._unread:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(descriptor, 65_536) if ready else b""
            if not data or len(self._unread) > LINE_MAX_BYTES:
                raise self._gone()
            self._unread += data
        line, self._unread = self._unread.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise CannotMeasure("the tap refuses", why=answer["error"])
        return answer

    def _gone(self) -> CannotMeasure:
        return CannotMeasure(
            "the tap does not answer", why=f"its process {self.pid} ended or hangs; connections through it are broken", fix="start the measurement again"
        )


def _counters(answer: dict[str, Any]) -> TapCounters:
    return TapCounters(**{**answer, "per_connection": tuple(answer["per_connection"]), "live": tuple(answer["live"])})
