"""Starts a tap as a process of its own, reads its counters, sets its delay, and ends it."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from perfloop.errors import CannotMeasure
from perfloop.wire.tap import short_path

ANSWER_S = 5.0
START_S = 20.0  # on a busy machine
STOP_S = 3.0
LINE_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Passed:
    """One kind of exchange: how often, how long from when it was sent on until it was answered, and how often with an error."""

    count: int
    seconds: float
    errors: int


@dataclass(frozen=True)
class TapCounters:
    """What went through a tap. ``round_trips``: turns of the conversation in which the client spoke, over all connections; ``per_connection``
    those of the last 1000 connections that ended, ``live`` of the open ones. ``delayed_s``: how long they were held back in all. ``busy_max``: connections in use
    at once, at most since the counters were last read. ``groups``: what was asked, without literals; ``opaque``: connections that could not be read, by reason."""

    connections: int
    open: int
    refused: int
    bytes_up: int
    bytes_down: int
    round_trips: int
    delay_ms: float
    per_connection: tuple[int, ...]
    live: tuple[int, ...]
    delayed_s: float = 0.0
    busy: int = 0
    busy_max: int = 0
    groups: Mapping[str, Passed] = field(default_factory=dict)
    opaque: Mapping[str, int] = field(default_factory=dict)


class Tap:
    """Context manager around one tap on ``host:port``; connect to ``(tap.host, tap.port)`` instead. It ends with this process, however that ends."""

    def __init__(self, host: str, port: int, delay_ms: float = 0.0, protocol: str = "tcp") -> None:
        self.to = (host, port)
        self.delay_ms, self.protocol = delay_ms, protocol
        self.host, self.port = "127.0.0.1", 0
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def __enter__(self) -> Tap:
        """Start it; ``CannotMeasure`` where it does not."""
        host, port = self.to
        command = [sys.executable, "-m", "perfloop.wire.tap", "--to", f"{host}:{port}", "--delay-ms", f"{self.delay_ms:g}", "--protocol", self.protocol]
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
        return _said(line)

    def _gone(self) -> CannotMeasure:
        return _silent(f"its process {self.pid}")


class Detached:
    """A tap that outlives us, by its control socket: the same questions from any process, also a later one."""

    def __init__(self, control: Path) -> None:
        self.control = control
        self._process: subprocess.Popen[bytes] | None = None  # where we started it

    def start(self, listen: tuple[str, int], to: tuple[str, int], protocol: str, mark: int = 0, nft_table: str = "") -> int:
        """Start its process; returns the process id. ``nft_table``: a table that it deletes at its end. ``CannotMeasure`` where the port is taken or it does not start."""
        ends = [f"{host}:{port}" for host, port in (listen, to)]
        command = [sys.executable, "-P", "-m", "perfloop.wire.tap", "--listen", ends[0], "--to", ends[1], "--protocol", protocol]
        command += ["--control", str(self.control), "--mark", str(mark), "--nft-table", nft_table]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/")
        self._process = process
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_S)
        line = process.stdout.readline() if ready else b""
        process.stdout.close()
        if not line:
            process.kill()
            process.wait()
            raise CannotMeasure("the tap did not start", why=f"nothing within {START_S:g} s", fix="perfloop doctor")
        pid: int = _said(line)["pid"]
        self.counters()  # from now on it waits for us
        return pid

    @property
    def ok(self) -> bool:
        """True where it answers."""
        try:
            self.counters()
        except CannotMeasure:
            return False
        return True

    def counters(self) -> TapCounters:
        """What went through so far. ``CannotMeasure`` where it is gone."""
        return _counters(_said(self._ask("counters")))

    def set_delay(self, delay_ms: float) -> TapCounters:
        """Delay each client's turn from now on, for 30 s; returns the counters at that moment."""
        return _counters(_said(self._ask(f"delay {delay_ms:g}")))

    def end(self, drain: bool = False) -> None:
        """End it, at once or when its last connection has ended; nothing where it is gone already. At once: returns when it is gone."""
        if not self.control.exists():
            return
        try:
            self._ask("drain" if drain else "quit")
        except CannotMeasure:
            self.control.unlink(missing_ok=True)  # its process died
            return
        deadline = time.monotonic() + STOP_S
        while not drain and self.control.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._process is not None and not drain:
            self._process.wait(STOP_S)

    def _ask(self, line: str) -> bytes:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, short_path(self.control) as path:
                connection.settimeout(ANSWER_S)
                connection.connect(path)
                connection.sendall(line.encode() + b"\n")
                connection.shutdown(socket.SHUT_WR)
                answer = b""
                while data := connection.recv(65_536):
                    answer += data
                return answer
        except OSError as error:
            raise _silent(f"{self.control} ({error.strerror or error})") from error


def _said(line: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise CannotMeasure("the tap refuses", why=answer["error"])
    return answer


def _silent(who: str) -> CannotMeasure:
    return CannotMeasure("the tap does not answer", why=f"{who} ended or hangs; connections through it are broken", fix="start the measurement again")


def _counters(answer: dict[str, Any]) -> TapCounters:
    groups = {label: Passed(**group) for label, group in answer["groups"].items()}
    return TapCounters(**{**answer, "per_connection": tuple(answer["per_connection"]), "live": tuple(answer["live"]), "groups": groups})
