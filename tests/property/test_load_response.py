"""For any bytes, split anywhere: the reader never crashes, and answers are the same however they were split."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perfloop.load.engines.response import HEAD_MAX_BYTES, ProtocolError, ResponseReader

SOUND = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: 1\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 None\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(at)]


@given(st.sampled_from(SOUND), st.lists(st.integers(0, 200), max_size=12))
def test_a_sound_response_is_complete_at_its_last_byte_wherever_it_is_split(data, cuts):
    reader = ResponseReader()
    parts = pieces(data, cuts)
    done = [reader.feed(part) for part in parts]
    assert done == [False] * (len(parts) - 1) + [True]
    assert reader.size_bytes == len(data)
    assert reader.keep_alive
    reader.begin(False)
    assert reader.feed(SOUND[0])  # the same connection goes on


@given(st.sampled_from(SOUND), st.integers(0, 200))
def test_a_response_cut_short_is_not_complete(data, at):
    reader = ResponseReader()
    cut = data[: at % len(data)]
    assert not (cut and reader.feed(cut))
    assert not reader.complete_at_eof()


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(lambda b: b"HTTP/1.1 200 OK\r\n" + b)), st.lists(st.integers(0, 300), max_size=6))
@example(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", [])
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", [])
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", [])
def test_garbage_is_refused_or_waited_for_never_a_crash(data, cuts):
    reader = ResponseReader()
    for part in pieces(data, cuts):
        try:
            if reader.feed(part):
                assert reader.error_class() in ("", "status_4xx", "status_5xx", "protocol")
                return
        except ProtocolError:
            return


def test_a_head_without_end_is_bounded():
    reader = ResponseReader()
    assert not reader.feed(b"HTTP/1.1 200 OK\r\n")
    filler = b"X-Filler: " + b"y" * (HEAD_MAX_BYTES // 2) + b"\r\n"
    assert not reader.feed(filler)
    with pytest.raises(ProtocolError, match="header is longer"):
        reader.feed(filler)
