"""Requests by HTTP/2 over shared connections. To users and arrivals it looks like the other pool."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from perfloop.errors import CannotMeasure
from perfloop.load.engines.http2_connection import Fields, Http2Connection, Stream
from perfloop.load.engines.inbox import Inbox
from perfloop.load.engines.pool import Pool, Route

if TYPE_CHECKING:
    from perfloop.load.engines.calls import Call
    from perfloop.load.engines.connection import Connection

REQUESTS_MAX = 10_000  # kept as headers
PROBE_S = 10.0


def speaks_http2(route: Route) -> bool:
    """Whether the server chooses HTTP/2 where TLS offers it. ``CannotMeasure`` where no TLS comes about."""
    assert route.tls is not None
    error: Exception = OSError("no address")
    for address in route.addresses:
        try:
            with socket.create_connection(address, PROBE_S) as plain, route.tls.wrap_socket(plain, server_hostname=route.server_name) as secure:
                return secure.selected_alpn_protocol() == "h2"
        except ssl.SSLError as failure:
            if "no application protocol" in str(failure).lower().replace("_", " "):  # some say no instead of choosing nothing
                return False
            error = failure
        except OSError as failure:
            error = failure
    raise CannotMeasure(f"no TLS with {route.server_name}", why=str(error), fix="check the address and target.ca_file")


class Http2Pool(Pool):
    """Connections with many requests each: the first with room is used, and another one is opened where all are full. With ``own`` each user has one."""

    def __init__(self, route: Route, connections_max: int, own: bool, timeout_s: float, on_retry: Callable[[], None], inbox: Inbox | None = None) -> None:
        super().__init__(route, connections_max, own, timeout_s, on_retry, inbox)
        self._scheme = "https" if route.tls else "http"
        self._requests: dict[bytes, tuple[Fields, bytes]] = {}

    def request_of(self, payload: bytes) -> tuple[Fields, bytes]:
        """Header fields and body of a request that was written for HTTP/1.1."""
        found = self._requests.get(payload)
        if found is None:
            head, _, body = payload.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            method, path, _ = first.split(" ", 2)
            pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
            authority = next((value for name, value in pairs if name == "host"), "")
            fields = [(":method", method), (":scheme", self._scheme), (":authority", authority), (":path", path), *(p for p in pairs if p[0] != "host")]
            found = fields, body
            if len(self._requests) < REQUESTS_MAX:
                self._requests[payload] = found
        return found

    def submit(self, call: Call) -> None:
        """Sends a call on a connection with room, or as soon as there is one."""
        connection = self._usable(call)
        if connection is not None:
            connection.send(call)
        else:
            self._waiting[call] = None
            self.refill()

    def give_back(self, connection: Connection, keep_alive: bool) -> None:
        """A call was answered: its stream is over."""
        if not keep_alive:
            connection.abort()
        self.serve()

    def release(self, connection: Connection) -> None:
        """A stream is over, so there is room."""
        self.serve()

    def serve(self) -> None:
        """Sends for who waits, as long as there is room."""
        while self._waiting and not self._own:
            connection = self._usable(None)
            if connection is None:
                self.refill()
                return
            connection.send(self._waiting.popitem(last=False)[0])

    def drop(self, call: Call) -> None:
        """A call is over before it was answered: its stream is reset, or where each user has a connection, that one is closed."""
        self._waiting.pop(call, None)
        held: Any = call.connection
        call.connection = None
        if isinstance(held, Stream):
            if self._own:
                held.h2.abort()
            elif held.call is call:
                held.h2.cancel(held)
        elif held is not None and held.bound is call:
            held.bound = None
            held.abort()

    def retry(self, call: Call) -> None:
        """The server has not begun with a request: once more, elsewhere."""
        call.retried = True
        call.connection = None
        self._on_retry()
        self.submit(call)

    def refill(self) -> None:
        """Opens a connection for who waits: one at a time where they are shared."""
        if self._own:
            super().refill()
        elif self._waiting and not self._connects and self._room():
            self._connect(None)

    def ready(self, connection: Http2Connection) -> None:
        """A connection is ready for its first call."""
        self.connections.add(cast("Connection", connection))
        bound, connection.bound = connection.bound, None
        if bound is not None:
            connection.send(bound)
        elif self._own:
            connection.abort()  # whoever it was for has given up
        else:
            self.serve()

    def _new(self, bound: Call | None) -> Any:
        return Http2Connection(self, bound)

    def _usable(self, call: Call | None) -> Http2Connection | None:
        if not self._own:
            return next((one for one in cast("set[Http2Connection]", self.connections) if one.usable), None)
        held: Any = call.connection if call is not None else None
        return held.h2 if isinstance(held, Stream) and held.h2.usable else None
