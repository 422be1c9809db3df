"""Connections of a window: opened when somebody needs one, within bounds, and used again."""

from __future__ import annotations

import asyncio
import errno
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle

from perfloop.load.engines.calls import Call
from perfloop.load.engines.connection import Connection
from perfloop.load.engines.inbox import Inbox

CONNECTING_MAX = 256  # at once: more would only overflow the service's backlog
#: What is missing on our side, never the service's fault: the window is worth nothing.
OURS = {
    errno.EMFILE: ("the limit of open files is reached", "raise it: ulimit -n 100000"),
    errno.ENFILE: ("the machine is out of open files", "raise it: sysctl fs.file-max"),
    errno.EADDRNOTAVAIL: (
        "all local ports are taken",
        "connect from several addresses (source_addresses, 28,232 connections each), lower the users or measure.connections_max, or have the service keep connections alive",
    ),
    errno.ENOMEM: ("the machine is out of memory", "lower the users or the rate"),
    errno.ENOBUFS: ("the machine is out of socket buffers", "lower the users or the rate"),
}


class OursError(Exception):
    """The load generator cannot go on; ``fix`` says what it needs."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Route:
    """How to connect: addresses in the order to try, TLS with the name to verify, local addresses in turn, and how long it may take."""

    addresses: tuple[tuple[str, int], ...]
    tls: ssl.SSLContext | None
    server_name: str
    sources: tuple[str, ...] = ()
    connect_s: float | None = None


class Pool:
    """Shared connections (the most recent first, so that few stay warm), or with ``own`` one for each caller."""

    def __init__(self, route: Route, connections_max: int, own: bool, timeout_s: float, on_retry: Callable[[], None], inbox: Inbox | None = None) -> None:
        self._route, self._connections_max, self._own, self._timeout_s, self._on_retry = route, connections_max, own, timeout_s, on_retry
        self.connections: set[Connection] = set()
        self._idle: dict[Connection, None] = {}
        self._waiting: OrderedDict[Call, None] = OrderedDict()
        self._connects: set[asyncio.Task[None]] = set()
        self._sources = cycle(route.sources) if route.sources else None
        self._loop = asyncio.get_running_loop()
        self._inbox = inbox
        self._closed = False
        self.broken: OursError | None = None

    def submit(self, call: Call) -> None:
        """Sends a call on a free connection, or as soon as there is one."""
        if self._own:
            connection = call.connection
            if connection is not None and connection.transport is not None and not connection.dead and connection.call is None:
                connection.send(call)
                return
        while self._idle:
            connection = self._idle.popitem()[0]
            if not connection.dead:
                connection.send(call)
                return
        self._waiting[call] = None
        self.refill()

    def give_back(self, connection: Connection, keep_alive: bool) -> None:
        """A call was answered: the connection is free, or of no more use."""
        if not keep_alive:
            connection.abort()
        elif not self._own:
            self.release(connection)

    def release(self, connection: Connection) -> None:
        """A shared connection is free: for whoever waits longest, else for the next."""
        if self._waiting:
            connection.send(self._waiting.popitem(last=False)[0])
        else:
            self._idle[connection] = None

    def drop(self, call: Call) -> None:
        """A call is over before it was answered: it waits no more, and what comes back on its connection is nobody's."""
        self._waiting.pop(call, None)
        connection, call.connection = call.connection, None
        if connection is not None and (connection.call is call or connection.bound is call):
            connection.bound = None
            connection.abort()

    def retry(self, call: Call) -> None:
        """An idle connection was closed under a call: once more on a fresh one, as every client does (RFC 9112, 9.3.1)."""
        self._on_retry()
        self._connect(call)

    @property
    def connecting(self) -> bool:
        """True while connections are being opened, which needs the event loop."""
        return bool(self._connects)

    def refill(self) -> None:
        """Opens connections for who waits, within the bounds."""
        waiting = self._waiting
        if self._own:
            while waiting and len(self._connects) < CONNECTING_MAX and not self._closed:
                self._connect(waiting.popitem(last=False)[0])
            return
        while len(self._connects) < min(len(waiting), CONNECTING_MAX) and self._room():
            self._connect(None)

    def opened(self, connection: Connection) -> None:
        """A connection is ready for its first call."""
        self.connections.add(connection)
        bound, connection.bound = connection.bound, None
        if bound is not None:
            connection.send(bound)
        elif self._own:
            connection.abort()  # whoever it was for has given up
        else:
            self.release(connection)

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        self.connections.discard(connection)
        self._idle.pop(connection, None)
        if self._waiting:
            self.refill()

    def close(self) -> None:
        """Ends all connections, whatever they do."""
        self._closed = True
        for task in self._connects:
            task.cancel()
        for connection in tuple(self.connections):
            connection.abort()

    def _new(self, bound: Call | None) -> Connection:
        return Connection(self, bound)

    def _room(self) -> bool:
        return not self._closed and len(self.connections) + len(self._connects) < self._connections_max

    def _connect(self, bound: Call | None) -> None:
        task = self._loop.create_task(self._open(bound))
        self._connects.add(task)
        task.add_done_callback(self._connected)

    async def _open(self, bound: Call | None) -> None:
        route = self._route
        error, detail = "connect", "no address"
        patience_s = min(route.connect_s or self._timeout_s, self._timeout_s)
        until_s = time.monotonic() + patience_s
        for host, port in route.addresses:
            connection = self._new(bound)
            if bound is not None:
                bound.connection = connection
            source = (next(self._sources), 0) if self._sources else None
            try:
                async with asyncio.timeout(max(0.0, until_s - time.monotonic())):
                    if self._inbox is not None:
                        await self._inbox.connect(connection, host, port, source)
                    else:
                        await self._loop.create_connection(
                            lambda made=connection: made, host, port, ssl=route.tls, server_hostname=route.server_name or None, local_addr=source
                        )
            except TimeoutError:
                error, detail = "timeout_connect" if route.connect_s else "connect", f"no connection within {patience_s:g} s"
            except OSError as failure:
                error, detail = "connect", str(failure)
                if failure.errno in OURS:
                    what, fix = OURS[failure.errno]
                    self.broken = OursError(f"{what}: {failure}", fix)
            else:
                return
            if bound is not None and connection.bound is None:
                return  # given up meanwhile
        call = bound
        if call is None and self._waiting:
            call = self._waiting.popitem(last=False)[0]
        if call is not None:
            call.connection = None
            call.failed(error, detail, 0)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connects.discard(task)
        if not task.cancelled():
            task.result()  # an error here is a bug, and must be seen
        self.refill()
