"""One keep-alive connection of the load engine: one request at a time, each ending in exactly one class."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from perfloop.load.engines.requests import Template
from perfloop.load.engines.response import ProtocolError, ResponseReader

if TYPE_CHECKING:
    from perfloop.load.engines.sender import Sender


class Request:
    """One request from its arrival to its end; ``done`` makes sure that it ends once."""

    __slots__ = ("connection", "done", "intended_s", "retried", "step", "template")

    def __init__(self, intended_s: float, step: int, template: Template) -> None:
        self.intended_s, self.step, self.template = intended_s, step, template
        self.done = self.retried = False
        self.connection: Connection | None = None


class Connection(ResponseReader, asyncio.Protocol):
    """The protocol object: writes a request, reads its response, and goes back to the pool."""

    def __init__(self, sender: Sender, bound: Request | None) -> None:
        super().__init__()
        self._sender = sender
        self._request: Request | None = None
        self._used = False
        self.bound = bound  # the request that this connection was opened for, when it must not go on another
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open, TLS included."""
        self.transport = cast(asyncio.Transport, transport)
        self._sender.opened(self)

    def send(self, request: Request) -> None:
        """Writes one request; the connection must be idle."""
        assert self.transport is not None
        assert self._request is None
        self._request = request
        request.connection = self
        self.begin(request.template.head)
        self.transport.write(request.template.payload)

    def data_received(self, data: bytes) -> None:
        """Bytes of a response, or of nothing that was asked for: then the connection is of no use any more."""
        request = self._request
        if request is None:
            self.abort()
            return
        try:
            if self.feed(data):
                self._answered(request)
        except ProtocolError as error:
            self._request = None
            self._sender.failed(request, "protocol", str(error), self.size_bytes)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer closed, or we did."""
        request, self._request = self._request, None
        self._sender.lost(self)
        if request is not None and not request.done:
            self._unanswered(request, exc)
        self._sender.refill()

    def _unanswered(self, request: Request, exc: Exception | None) -> None:
        if exc is None and self.complete_at_eof():
            self._sender.answered(request, self.error_class(), self.status, self.size_bytes)
        elif self._used and not self.size_bytes and request.template.idempotent and not request.retried:
            self._sender.retry(request)
        else:
            detail = str(exc) if exc else f"closed by the peer after {self.size_bytes} bytes of the response"
            self._sender.failed(request, "reset", detail, self.size_bytes)

    def abort(self) -> None:
        """Closes at once; what is in flight is nobody's any more."""
        self.keep_alive = False
        if self.transport is not None:
            self.transport.abort()

    def _answered(self, request: Request) -> None:
        self._request = None
        self._used = True
        self._sender.answered(request, self.error_class(), self.status, self.size_bytes)
        if self.keep_alive and self.transport is not None and not self.transport.is_closing():
            self._sender.release(self)
        else:
            self.abort()
