"""One keep-alive connection of the load engine: one call at a time, each answered or failed exactly once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from perfloop.load.engines.heads import Head, Heads
from perfloop.load.engines.response import RESPONSE_MAX_BYTES, ProtocolError, ResponseReader

if TYPE_CHECKING:
    from perfloop.load.engines.calls import Call
    from perfloop.load.engines.pool import Pool

#: All connections of the process read into this one buffer: what is in it is used up before the next read.
BUFFER = bytearray(256 * 2**10)
VIEW = memoryview(BUFFER)
_find = BUFFER.find
HEADS = Heads()
_known = HEADS.get


class Connection(asyncio.BufferedProtocol):
    """Writes the bytes of a call, reads its response, and hands it back. ``bound`` is a call that this connection is being opened for."""

    __slots__ = ("_chunks", "_fresh", "_head", "_need", "_pool", "_reader", "_write", "bound", "call", "dead", "read_at_s", "size_bytes", "transport", "used")

    def __init__(self, pool: Pool, bound: Call | None) -> None:
        self._pool, self.bound = pool, bound
        self.call: Call | None = None
        self.transport: asyncio.Transport | None = None
        self._fresh = False  # nothing of the response is there yet, and it may be a plain one
        self.used = False
        self.dead = False
        self.size_bytes = 0  # of the response so far
        self.read_at_s = 0.0  # when the kernel had what was read last; 0 where that is not known
        self._reader: ResponseReader | None = None
        self._head: Head | None = None
        self._need = 0  # bytes of the body still to come behind a plain head
        self._chunks: list[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open, TLS included."""
        self.transport = cast(asyncio.Transport, transport)
        self._write: Any = self.transport.write
        if self.dead:
            self.transport.abort()
        else:
            self._pool.opened(self)

    def send(self, call: Call) -> None:
        """Writes one call; the connection must be idle."""
        self.call = call
        call.connection = self
        self.size_bytes = 0
        self._fresh = not call.head
        self._write(call.payload)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return VIEW

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes of a response. The short way is a whole response behind a head that was seen before."""
        if self._fresh:
            end = _find(b"\r\n\r\n", 0, nbytes)
            if end > 0:
                head = _known(bytes(VIEW[:end]))
                if head is not None and nbytes - end == head.rest:
                    self._fresh = False
                    self.used = True
                    call, self.call = self.call, None
                    call.answered(self, head, nbytes, end + 4)  # type: ignore[union-attr]
                    return
        self._read(nbytes)

    def take_body(self, size: int, body_at: int) -> bytes:
        """The body of the response that was just handed over: from the buffer, or as it was collected."""
        return bytes(VIEW[body_at:size]) if body_at >= 0 else b"".join(self._chunks or ())

    def eof_received(self) -> bool:
        """The peer closed its side, so we close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer closed, or we did."""
        self.dead = True
        call, self.call = self.call, None
        self._pool.lost(self)
        if call is not None:
            self._unanswered(call, exc)

    def abort(self) -> None:
        """Closes at once; what is in flight is nobody's any more."""
        self.dead = True
        self.call = None
        if self.transport is not None:
            self.transport.abort()

    def _read(self, nbytes: int) -> None:
        call = self.call
        if call is None:  # bytes of nothing that was asked for
            self.abort()
            return
        data = bytes(VIEW[:nbytes])
        self.size_bytes += nbytes
        try:
            if self._fresh and self._begin(call, data):
                return
            if self._head is not None:
                self._more(call, data)
            else:
                self._parse(call, data)
        except ProtocolError as error:
            self.call = None
            call.failed("protocol", str(error), self.size_bytes)
            self.abort()

    def _begin(self, call: Call, data: bytes) -> bool:
        """The first bytes of a response: True where its head is plain and all is taken care of."""
        self._fresh = False
        self._head = self._reader = None
        self._chunks = [] if call.keep else None
        end = data.find(b"\r\n\r\n")
        head = HEADS.read(data[:end]) if end > 0 else None
        if head is None:
            return False
        self._head, self._need = head, head.rest - 4
        self._more(call, data[end + 4 :])
        return True

    def _more(self, call: Call, data: bytes) -> None:
        assert self._head is not None
        if self.size_bytes > RESPONSE_MAX_BYTES:
            raise ProtocolError(f"the response is longer than {RESPONSE_MAX_BYTES} bytes")
        self._need -= len(data)
        if self._chunks is not None:
            self._chunks.append(data if self._need >= 0 else data[: self._need])
        if self._need > 0:
            return
        head, self._head = self._head, None
        if self._need < 0:  # a sound response with something behind it that nobody asked for
            head = Head(head.raw, head.status, -1, False)
        self._complete(call, head)

    def _parse(self, call: Call, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            reader = self._reader = ResponseReader()
            reader.begin(call.head, call.keep)
        if reader.feed(data):
            self._parsed(call, reader)

    def _parsed(self, call: Call, reader: ResponseReader) -> None:
        self._reader = None
        self._chunks = [bytes(reader.body)] if reader.keep else None
        self._complete(call, reader.as_head())

    def _complete(self, call: Call, head: Head) -> None:
        self.used = True
        self.call = None
        self._fresh = False
        call.answered(self, head, self.size_bytes, -1)

    def _unanswered(self, call: Call, exc: Exception | None) -> None:
        reader = self._reader
        if exc is None and reader is not None and reader.complete_at_eof():
            reader.keep_alive = False
            self._parsed(call, reader)
        elif self.used and not self.size_bytes and call.idempotent and not call.retried:
            call.retried = True
            self._pool.retry(call)
        else:
            call.failed("reset", str(exc) if exc else f"closed by the peer after {self.size_bytes} bytes of the response", self.size_bytes)
