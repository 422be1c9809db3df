"""Reads HTTP/1.x responses from bytes that may be split anywhere, and says for each whether it is complete, and sound."""

from __future__ import annotations

import re

import httptools

from perfloop.load.engines.heads import Head, class_of

HEAD_MAX_BYTES = 64 * 2**10
RESPONSE_MAX_BYTES = 64 * 2**20  # an endless body ends here, or at the timeout
_FRAMED = re.compile(rb"\n(?:content-length[ \t]*:|transfer-encoding[ \t]*:[^\r\n]*chunked)", re.IGNORECASE)


class ProtocolError(Exception):
    """What came is not an HTTP response, or one without end."""


class ResponseReader:
    """Reads the response of one request at a time. Bodies are counted, kept where ``keep`` says so, and not decompressed.

    ``begin`` before each request, ``feed`` for what arrives (True when complete), ``complete_at_eof`` when the peer closed.
    """

    def __init__(self) -> None:
        self.begin(False)
        self._new_parser()

    def begin(self, head: bool, keep: bool = False) -> None:
        """Expects the response of the next request; a HEAD request's has no body whatever its headers say."""
        self.head, self.keep = head, keep
        self.body = bytearray()
        self.status = 0
        self.size_bytes = 0
        self.complete = False
        self.keep_alive = False
        self._headers_complete = False
        self._raw_head = b""

    def feed(self, data: bytes) -> bool:
        """Takes what arrived; True when the response is complete. Raises ``ProtocolError``."""
        self.size_bytes += len(data)
        if self.size_bytes > RESPONSE_MAX_BYTES:
            raise ProtocolError(f"the response is longer than {RESPONSE_MAX_BYTES} bytes")
        if not self._headers_complete:
            self._raw_head += data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                raise ProtocolError(str(error)[:200] or type(error).__name__) from error
            self.keep_alive = False  # a sound response with something behind it that is none
        if self.complete:
            if self.head:
                self._new_parser()  # the old one would wait for the body that the headers announce
            return True
        if not self._headers_complete and len(self._raw_head) > HEAD_MAX_BYTES:
            raise ProtocolError(f"the header is longer than {HEAD_MAX_BYTES} bytes")
        if self._headers_complete and not 100 <= self.status < 600:
            raise ProtocolError(f"status {self.status}")
        return False

    def complete_at_eof(self) -> bool:
        """True where the peer's close is the end of the body: a response with neither a length nor chunks."""
        return self._headers_complete and not self.complete and not _FRAMED.search(self._raw_head)

    def error_class(self) -> str:
        """The class of a complete response: empty when it is a success (1xx to 3xx), else ``status_4xx``, ``status_5xx`` or ``protocol``."""
        return class_of(self.status)

    def as_head(self) -> Head:
        """Status and headers of a complete response; trailers, which no client waits for, are left out."""
        return Head(bytes(self._raw_head).split(b"\r\n\r\n", 1)[0], self.status, -1, self.keep_alive)

    def on_body(self, data: bytes) -> None:
        """Called by the parser, chunk by chunk."""
        if self.keep and not self.complete:
            self.body += data

    def on_message_begin(self) -> None:
        """Called by the parser; a second message behind the answer belongs to no request."""
        if self.complete:
            self.keep_alive = False

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self.complete:
            return
        self.status = self._parser.get_status_code()
        self._headers_complete = True
        if self.head and self.status >= 200:
            self.complete = True
            self.keep_alive = self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        """Called by the parser; an interim response (100 Continue, 103 Early Hints) is not the answer yet."""
        if self.complete:
            return
        if self.status < 200:
            self._headers_complete = self.status == 101  # a switch of protocols ends the HTTP, and is no answer either
            self._raw_head = b""
            return
        self.complete = True
        self.keep_alive = self._parser.should_keep_alive()

    def _new_parser(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
