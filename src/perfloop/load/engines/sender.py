"""Sends open load: each request at its time, on the next free connection, within bounds of connections, time and errors."""

from __future__ import annotations

import asyncio
import errno
import ssl
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perfloop.load.engines.connection import Connection, Request
from perfloop.load.engines.recorder import Recorder
from perfloop.load.engines.requests import Template
from perfloop.load.engines.timer import ArrivalTimer

BATCH_MAX = 64  # arrivals taken up at once when behind, before answers are read again
STOP_AFTER = 50  # requests before the share of errors may end the window
#: What is missing on our side, never the service's fault: the window is worth nothing.
_OURS = {
    errno.EMFILE: "raise the limit of open files: ulimit -n",
    errno.ENFILE: "the machine is out of open files: raise fs.file-max",
    errno.EADDRNOTAVAIL: "all local ports are taken: lower measure.connections_max, or have the service keep connections alive",
    errno.ENOMEM: "the machine is out of memory",
    errno.ENOBUFS: "the machine is out of socket buffers",
}


class OursError(Exception):
    """The load generator cannot go on; ``fix`` says what it needs."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Route:
    """How to connect: addresses in the order to try, and TLS with the name to verify."""

    addresses: tuple[tuple[str, int], ...]
    tls: ssl.SSLContext | None
    server_name: str


class Sender:
    """One window of load. ``begin`` starts it, ``tick`` is called every few milliseconds, ``finished`` says when it is over."""

    def __init__(
        self, route: Route, templates: Sequence[Sequence[Template]], recorder: Recorder, timeout_s: float, connections_max: int, error_rate_stop: float
    ) -> None:
        self._route, self._templates, self._recorder = route, templates, recorder
        self._timeout_s, self._connections_max, self._error_rate_stop = timeout_s, connections_max, error_rate_stop
        self._turns = [0] * len(templates)
        self._connections: set[Connection] = set()
        self._idle: dict[Connection, None] = {}  # used as a stack: the most recent first, so that few stay warm
        self._waiting: deque[Request] = deque()  # due, without a connection yet
        self._in_flight: deque[Request] = deque()  # all that are not done, oldest first, and some that are
        self._connects: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._timer = ArrivalTimer(self._loop, self._arrive)
        self._next_s = float("inf")
        self.sending = True
        self.stopped_early = ""
        self.ended_at_s = 0.0
        self.broken: OursError | None = None

    def begin(self, start_s: float, times: Iterator[float], choices: Iterator[int]) -> None:
        """Sends by this schedule, whose zero is the monotonic time ``start_s``."""
        self._start_s, self._times, self._choices = start_s, times, choices
        self._recorder.begin(start_s)
        self._advance()

    @property
    def finished(self) -> bool:
        """True when all that was sent has ended."""
        return not self.sending and self._recorder.finished == self._recorder.sent

    def tick(self, now_s: float, end_s: float) -> None:
        """Ends what is over its time, opens connections for who waits, and stops at the end or at too many errors."""
        self._expire(now_s)
        self.refill()
        if self.sending and self._next_s == float("inf") and now_s >= end_s:
            self.stop(end_s)
        recorder = self._recorder
        if self.sending and recorder.finished >= STOP_AFTER and recorder.failed > self._error_rate_stop * recorder.finished:
            firsts = "; ".join(f"{name}: {detail}" for name, detail in recorder.first_errors.items())
            self.stopped_early = f"{recorder.failed} of {recorder.finished} requests failed ({firsts})"
            self.stop(now_s)

    def stop(self, now_s: float) -> None:
        """No more arrivals; what is in flight is awaited."""
        self.sending, self.ended_at_s, self._next_s = False, now_s, float("inf")

    def close(self) -> None:
        """Ends all connections, whatever they do."""
        self._timer.close()
        for task in self._connects:
            task.cancel()
        for connection in tuple(self._connections):
            connection.abort()

    # ----- arrivals

    def _arrive(self) -> None:
        for _ in range(BATCH_MAX):
            now_s = time.monotonic()
            intended_s = self._next_s
            if intended_s > now_s:
                break
            step = next(self._choices)
            templates = self._templates[step]
            turn = self._turns[step]
            self._turns[step] = turn + 1
            request = Request(intended_s, step, templates[turn % len(templates)])
            self._recorder.arrived(step, intended_s, now_s - intended_s)
            self._in_flight.append(request)
            if self._idle:
                self._idle.popitem()[0].send(request)
            else:
                self._waiting.append(request)
                self.refill()
            self._next_s = self._start_s + next(self._times, float("inf"))
        if self._next_s != float("inf"):
            self._timer.arm(self._next_s)

    def _advance(self) -> None:
        self._next_s = self._start_s + next(self._times, float("inf"))
        if self._next_s != float("inf"):
            self._timer.arm(self._next_s)

    def _expire(self, now_s: float) -> None:
        oldest_s = now_s - self._timeout_s
        in_flight = self._in_flight
        while in_flight and (in_flight[0].done or in_flight[0].intended_s <= oldest_s):
            request = in_flight.popleft()
            if not request.done:
                connection = request.connection
                self.failed(request, "timeout", f"no complete response within {self._timeout_s} s", connection.size_bytes if connection else 0)
                if connection:
                    connection.abort()

    # ----- connections

    def refill(self) -> None:
        """Opens connections for who waits, within the bound."""
        waiting = self._waiting
        while waiting and waiting[0].done:
            waiting.popleft()
        while len(self._connects) < len(waiting) and self._room():
            self._connect(None)

    def _room(self) -> bool:
        return len(self._connections) + len(self._connects) < self._connections_max

    def _connect(self, bound: Request | None) -> None:
        task = self._loop.create_task(self._open(bound))
        self._connects.add(task)
        task.add_done_callback(self._connected)

    async def _open(self, bound: Request | None) -> None:
        route, last = self._route, OSError("no address")
        for host, port in route.addresses:
            connection = Connection(self, bound)
            try:
                server_name = route.server_name if route.tls else None
                async with asyncio.timeout(self._timeout_s):
                    await self._loop.create_connection(lambda made=connection: made, host, port, ssl=route.tls, server_hostname=server_name)
            except TimeoutError:
                last = OSError(f"no connection within {self._timeout_s} s")
            except OSError as error:
                last = error
                if error.errno in _OURS:
                    self.broken = OursError(str(error), _OURS[error.errno])
            else:
                return
        request = bound
        while request is None and self._waiting:
            request = self._waiting.popleft()
            request = None if request.done else request
        if request is not None:
            self.failed(request, "connect", str(last), 0)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connects.discard(task)
        if not task.cancelled():
            task.result()  # an error here is a bug, and must be seen
        self.refill()

    def opened(self, connection: Connection) -> None:
        """A connection is ready for its first request."""
        self._connections.add(connection)
        bound, connection.bound = connection.bound, None
        if bound is not None and not bound.done:
            connection.send(bound)
        else:
            self.release(connection)

    def release(self, connection: Connection) -> None:
        """A connection is free: for whoever waits longest, else for the next arrival."""
        while self._waiting:
            request = self._waiting.popleft()
            if not request.done:
                connection.send(request)
                return
        self._idle[connection] = None

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        self._idle.pop(connection, None)

    # ----- ends of requests

    def answered(self, request: Request, error: str, status: int, size_bytes: int) -> None:
        """A complete response came."""
        if error:
            self.failed(request, error, f"status {status}", size_bytes)
        elif not request.done:
            request.done, request.connection = True, None
            self._recorder.answered(request.step, request.intended_s, time.monotonic(), size_bytes)

    def failed(self, request: Request, error: str, detail: str, size_bytes: int) -> None:
        """A request ended without success."""
        if not request.done:
            request.done, request.connection = True, None
            self._recorder.failed_as(request.step, error, detail, size_bytes)

    def retry(self, request: Request) -> None:
        """An idle connection was closed under a request: once more on a fresh one, as every client does (RFC 9112, 9.3.1)."""
        request.retried, request.connection = True, None
        self._recorder.retries += 1
        self._connect(request)
