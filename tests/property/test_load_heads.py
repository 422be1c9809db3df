"""The short way of reading responses says the same as the real parser, for any bytes, split anywhere; each request ends in exactly one class."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from perfloop.load.engines.calls import Call
from perfloop.load.engines.connection import BUFFER, Connection
from perfloop.load.engines.heads import read_plain
from perfloop.load.engines.recorder import Recorder
from perfloop.load.engines.requests import Template
from perfloop.load.engines.response import ProtocolError, ResponseReader

NAMES = st.sampled_from(
    ["Content-Length", "content-length", "Transfer-Encoding", "Connection", "Set-Cookie", "X-A", "Date", "Keep-Alive", "Upgrade", "bad name", ""]
)
VALUES = st.one_of(
    st.sampled_from(["0", "5", " 5 ", "+5", "5,5", "-1", "99999999999999", "chunked", "close", "keep-alive", "Keep-Alive, x", "a=b"]), st.text(max_size=6)
)
STATUS = st.sampled_from(
    ["200 OK", "200", "204 No Content", "304 Not Modified", "404 Not Found", "500 X", "099 X", "100 Continue", "101 Up", "999 X", "2000 X", "ab"]
)
VERSIONS = st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "http/1.1"])


@st.composite
def responses(draw) -> bytes:
    lines = [f"{draw(VERSIONS)} {draw(STATUS)}"]
    lines += [f"{name}:{value}" for name, value in draw(st.lists(st.tuples(NAMES, VALUES), max_size=4))]
    if draw(st.booleans()):
        lines.append("Content-Length: 5")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + draw(st.sampled_from([b"", b"hello", b"hel", b"hello!", b"3\r\nabc\r\n0\r\n\r\n", b"\x00" * 5]))


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def write(self, data) -> None:
        pass

    def abort(self) -> None:
        self.closed = True


class _Pool:
    retried = 0

    def opened(self, connection) -> None:
        pass

    def lost(self, connection) -> None:
        pass

    def retry(self, call) -> None:
        self.retried += 1


class _Told(Call):
    __slots__ = ("told",)

    def answered(self, connection, head, size, body_at) -> None:
        self.told.append(("answered", head.status, head.error, size, head.keep_alive, connection.take_body(size, body_at)))

    def failed(self, error, detail, size) -> None:
        self.told.append(("failed", error, size))


def through_connection(parts: list[bytes], head: bool, eof: bool) -> list[tuple]:
    connection = Connection(_Pool(), None)
    connection.connection_made(_Transport())
    call = _Told(Recorder(1.0).column("x"), Template(b"GET", head, False), 1.0)
    call.keep, call.told = True, []
    connection.send(call)
    for part in parts:
        if connection.transport.closed:
            break
        BUFFER[: len(part)] = part
        connection.buffer_updated(len(part))
    if eof or connection.transport.closed:
        connection.connection_lost(None)
    return call.told


def through_parser(parts: list[bytes], head: bool) -> tuple | None:
    reader = ResponseReader()
    reader.begin(head, True)
    for part in parts:
        try:
            if reader.feed(part):
                return reader.status, reader.error_class(), reader.keep_alive, bytes(reader.body)
        except ProtocolError:
            return None
    return None


@settings(max_examples=400)
@given(responses(), st.lists(st.integers(0, 300), max_size=5), st.booleans())
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!", [], False)
@example(b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", [], False)
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", [], False)
def test_connections_and_the_parser_agree_on_any_response(data, cuts, head):
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    parts = [data[a:b] for a, b in pairwise(at)]
    told = through_connection(parts, head, eof=True)
    expected = through_parser(parts, head)
    assert len(told) == 1  # exactly one end, whatever came
    if expected is None:
        assert told[0][0] == "failed" or told[0][4] is False  # a close can end a body
    else:
        status, error, keep_alive, body = expected
        assert told[0][:3] == ("answered", status, error)
        assert told[0][5] == body
        assert told[0][4] == keep_alive or not told[0][4]  # never kept open where the parser would close


@given(st.lists(st.binary(max_size=80), max_size=5), st.booleans())
def test_garbage_ends_a_call_exactly_once(parts, head):
    assert len(through_connection([part for part in parts if part], head, eof=True)) == 1


@given(st.binary(max_size=200))
def test_a_head_is_plain_only_where_the_parser_reads_the_same(raw):
    head = read_plain(b"HTTP/1.1 200 OK\r\n" + raw)
    if head is not None:
        reader = ResponseReader()
        body = b"x" * (head.rest - 4) if head.rest < 10_000 else b""
        done = reader.feed(b"HTTP/1.1 200 OK\r\n" + raw + b"\r\n\r\n" + body)
        assert done or not body
