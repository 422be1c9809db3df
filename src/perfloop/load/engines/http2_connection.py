"""One connection of HTTP/2, by the library h2: requests become streams, frames become answers, each request is answered or failed exactly once.

Bytes are counted as HTTP/1.1 would write the messages: what frames and header compression make of them is not seen.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from perfloop.load.engines.heads import Head
from perfloop.load.engines.response import HEAD_MAX_BYTES, RESPONSE_MAX_BYTES, ProtocolError

if TYPE_CHECKING:
    from perfloop.load.engines.calls import Call
    from perfloop.load.engines.connection import Connection
    from perfloop.load.engines.http2 import Http2Pool

STREAMS_MAX = 100  # at once on a connection, where the server allows as many
IDS_MAX = 2**31 - 1_000  # of streams; a connection that comes there is used no more
WINDOW_BYTES = 2**24
FRAME_MAX_BYTES = 16_384  # as we tell the server, by telling nothing
_HEADER_BYTES, _SETTINGS, _GOAWAY = 9, 4, 7
Fields = list[tuple[str, str]]


class Stream:
    """One request on a shared connection: what a call knows as its connection."""

    __slots__ = ("_chunks", "bound", "call", "dead", "h2", "head", "number", "pending", "size_bytes")

    read_at_s = 0.0  # the kernel's time stamps are of packets, and streams share them

    def __init__(self, h2: Http2Connection, call: Call, number: int, pending: bytes) -> None:
        self.h2, self.number, self.pending = h2, number, pending
        self.call: Call | None = call
        self.bound: Call | None = None
        self.dead = False
        self.head: Head | None = None
        self.size_bytes = 0
        self._chunks: list[bytes] | None = [] if call.keep else None

    def send(self, call: Call) -> None:
        """The next request of the same user, on the same connection."""
        self.h2.pool.submit(call)

    def abort(self) -> None:
        """Of no more use, with its whole connection."""
        self.h2.abort()

    def take_body(self, size: int, body_at: int) -> bytes:
        """The body of the response that was just handed over."""
        return b"".join(self._chunks or ())

    def more(self, data: bytes) -> None:
        """A piece of the body."""
        self.size_bytes += len(data)
        if self._chunks is not None:
            self._chunks.append(data)


class Http2Connection(asyncio.Protocol):
    """One connection: requests become streams, frames become answers. ``bound`` is a call that it is being opened for."""

    size_bytes = 0
    call = None

    def __init__(self, pool: Http2Pool, bound: Call | None) -> None:
        self.pool, self.bound = pool, bound
        self.transport: asyncio.Transport | None = None
        self.dead = False
        self.last = IDS_MAX  # the highest stream that the server takes care of
        self._left = bytearray()
        self._greeted = False
        self._streams: dict[int, Stream] = {}
        self._streams_max = STREAMS_MAX
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1", validate_outbound_headers=False))
        self._h2.local_settings = Settings(client=True, initial_values={SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES})

    @property
    def usable(self) -> bool:
        """True where another request may start on it."""
        return self.transport is not None and not self.dead and self.last == IDS_MAX and len(self._streams) < self._streams_max

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open, TLS included: settings go first."""
        self.transport = cast(asyncio.Transport, transport)
        if self.dead:
            self.transport.abort()
            return
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW_BYTES)
        self._flush()
        self.pool.ready(self)

    def send(self, call: Call) -> None:
        """Writes one call as a new stream."""
        fields, body = self.pool.request_of(call.payload)
        number = self._h2.get_next_available_stream_id()
        if number >= IDS_MAX - 2:
            self.last = number
        stream = self._streams[number] = Stream(self, call, number, body)
        call.connection = cast("Connection", stream)
        self._h2.send_headers(number, fields, end_stream=not body)
        if body:
            self._push(stream)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Frames of any streams."""
        try:
            for event in self._h2.receive_data(self._frames(data)):
                self._take(event)
        except (H2Error, ProtocolError) as error:
            self._fail_all("protocol", str(error)[:200] or type(error).__name__)
            self.abort()
            return
        if self.last < IDS_MAX and not self._streams and self.transport is not None:
            self.transport.close()
        self._flush()
        self.pool.serve()

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer closed, or we did."""
        self.dead = True
        self.pool.lost(cast("Connection", self))
        self._fail_all("reset", str(exc) if exc else "closed by the peer")

    def cancel(self, stream: Stream) -> None:
        """One request is given up; the others go on."""
        stream.call = None
        if self._streams.pop(stream.number, None) is not None and not self.dead:
            with suppress(H2Error):
                self._h2.reset_stream(stream.number, ErrorCodes.CANCEL)
            self._flush()

    def abort(self) -> None:
        """Closes at once; what is in flight is nobody's any more."""
        self.dead = True
        self._streams.clear()
        if self.transport is not None:
            self.transport.abort()

    def _frames(self, data: bytes) -> bytes:
        """The whole frames that are there now, without GOAWAY: h2 would not read the answers that may still follow it."""
        self._left += data
        passed, at = bytearray(), 0
        while len(self._left) - at >= _HEADER_BYTES:
            length, kind = int.from_bytes(self._left[at : at + 3], "big"), self._left[at + 3]
            if length > FRAME_MAX_BYTES or (not self._greeted and kind != _SETTINGS):
                raise ProtocolError("what came is not HTTP/2" if not self._greeted else f"a frame of {length} bytes is longer than was allowed")
            end = at + _HEADER_BYTES + length
            if len(self._left) < end:
                break
            self._greeted = True
            if kind == _GOAWAY and length >= 8:
                self._goaway(int.from_bytes(self._left[at + 9 : at + 13], "big") & 0x7FFFFFFF)
            else:
                passed += self._left[at:end]
            at = end
        del self._left[:at]
        return bytes(passed)

    def _take(self, event: Event) -> None:
        number = getattr(event, "stream_id", None)
        stream = self._streams.get(number) if number else None
        match event:
            case ResponseReceived() if stream is not None:
                stream.head = _head(cast(Fields, event.headers))
                stream.size_bytes += len(stream.head.raw)
                if stream.size_bytes > HEAD_MAX_BYTES:
                    self._refuse(stream, f"the header is longer than {HEAD_MAX_BYTES} bytes")
            case DataReceived():
                self._h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
                if stream is not None:
                    stream.more(event.data or b"")
                    if stream.size_bytes > RESPONSE_MAX_BYTES:
                        self._refuse(stream, f"the response is longer than {RESPONSE_MAX_BYTES} bytes")
            case StreamEnded() if stream is not None:
                self._answered(stream)
            case StreamReset() if stream is not None:
                self._reset(stream, int(event.error_code or 0))
            case WindowUpdated():
                for waiting in [stream] if stream is not None else [one for one in self._streams.values() if one.pending]:
                    self._push(waiting)
            case RemoteSettingsChanged():
                allowed = self._h2.remote_settings.max_concurrent_streams
                self._streams_max = max(1, min(STREAMS_MAX, allowed))
                for waiting in [one for one in self._streams.values() if one.pending]:
                    self._push(waiting)
            case _:
                pass  # interim answers, trailers, pings: nothing that a request ends with

    def _answered(self, stream: Stream) -> None:
        call, stream.call = stream.call, None
        del self._streams[stream.number]
        if call is None:
            return
        if stream.head is None:
            call.failed("protocol", "the stream ended without a response", stream.size_bytes)
        else:
            if stream.pending:  # an answer before the whole request was sent: the rest is not wanted
                with suppress(H2Error):
                    self._h2.reset_stream(stream.number, ErrorCodes.NO_ERROR)
            call.answered(cast("Connection", stream), stream.head, stream.size_bytes, -1)

    def _reset(self, stream: Stream, code: int) -> None:
        call, stream.call = stream.call, None
        del self._streams[stream.number]
        if call is None:
            return
        if code == ErrorCodes.REFUSED_STREAM and not call.retried:
            self.pool.retry(call)
        else:
            call.failed("reset", f"the server reset the stream (code {code})", stream.size_bytes)

    def _goaway(self, last: int) -> None:
        """The server takes no more requests here; those that it has not begun are sent again elsewhere (RFC 9113, 6.8)."""
        self.last = min(IDS_MAX - 1, last)
        for stream in [one for one in self._streams.values() if one.number > self.last]:
            self._reset(stream, ErrorCodes.REFUSED_STREAM)

    def _refuse(self, stream: Stream, detail: str) -> None:
        call = stream.call
        self.cancel(stream)
        if call is not None:
            call.failed("protocol", detail, stream.size_bytes)

    def _fail_all(self, error: str, detail: str) -> None:
        streams, self._streams = tuple(self._streams.values()), {}
        for stream in streams:
            call, stream.call = stream.call, None
            if call is not None:
                call.failed(error, detail, stream.size_bytes)

    def _push(self, stream: Stream) -> None:
        """Sends as much of a body as the server has room for."""
        while stream.pending:
            room = min(self._h2.local_flow_control_window(stream.number), self._h2.max_outbound_frame_size)
            if room <= 0:
                return
            piece, stream.pending = stream.pending[:room], stream.pending[room:]
            self._h2.send_data(stream.number, piece, end_stream=not stream.pending)

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and self.transport is not None:
            self.transport.write(data)


def _head(fields: Fields) -> Head:
    """Status and headers as HTTP/1.1 would write them."""
    status = next((value for name, value in fields if name == ":status"), "0")
    lines = "".join(f"\r\n{name}: {value}" for name, value in fields if not name.startswith(":"))
    return Head(f"HTTP/2 {status}{lines}".encode("latin-1", "replace"), int(status) if status.isdigit() else 0, -1, True)
