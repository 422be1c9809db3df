"""HTTP/1.1 by httptools: method and path, identifiers and values left out. HTTP/2 and upgraded connections pass unread."""

from __future__ import annotations

from typing import Any

import httptools

from perfloop.wire.groups import Groups, path
from perfloop.wire.protocols.base import Opaque, Watcher


class Connection(Watcher):
    """One connection."""

    def __init__(self, groups: Groups) -> None:
        super().__init__(groups)
        self._request: Any = httptools.HttpRequestParser(_Requests(self))
        self._response: Any = httptools.HttpResponseParser(_Responses(self))
        self.now_s = 0.0
        self.url = b""
        self._begun = False

    def client(self, data: bytes, now_s: float) -> None:
        """See ``Watcher``."""
        if not self._begun:
            self._begun = True
            if data[:1] == b"\x16":
                raise Opaque("TLS")
            if data.startswith(b"PRI * HTTP/2"):
                raise Opaque("HTTP/2")
        self.now_s = now_s
        self._feed(self._request, data)

    def server(self, data: bytes, now_s: float) -> None:
        """See ``Watcher``."""
        self.now_s = now_s
        self._feed(self._response, data)

    def _feed(self, parser: Any, data: bytes) -> None:
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise Opaque("an upgraded connection") from None
        except httptools.HttpParserError as error:
            raise Opaque(f"not HTTP/1.1: {error}") from None

    def begun(self) -> None:
        """A request's head is complete."""
        method = self._request.get_method().decode()
        self.ask(f"{method} {path(self.url.decode(errors='replace'))}", self.now_s)

    def head(self) -> bool:
        """An answer's head is complete; True where it has no body although it names a length."""
        status = self._response.get_status_code()
        if status == 101:
            raise Opaque("an upgraded connection")
        if self._pending and self._pending[0][0].startswith("HEAD "):
            self.ended()
            self._response = httptools.HttpResponseParser(_Responses(self))
            return True
        return False

    def ended(self) -> None:
        """An answer is complete."""
        status = self._response.get_status_code()
        if status >= 200:
            self.answered(self.now_s, error=status >= 500)


class _Requests:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def on_message_begin(self) -> None:
        self._connection.url = b""

    def on_url(self, url: bytes) -> None:
        self._connection.url += url

    def on_headers_complete(self) -> None:
        self._connection.begun()


class _Responses:
    def __init__(self, connection: Connection) -> None:
        self._connection, self._done = connection, False

    def on_message_begin(self) -> None:
        self._done = False

    def on_headers_complete(self) -> None:
        self._done = self._connection.head()

    def on_message_complete(self) -> None:
        if not self._done:
            self._connection.ended()
