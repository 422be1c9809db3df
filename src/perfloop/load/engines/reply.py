"""What a journey sees of a response."""

from __future__ import annotations

import json
import zlib
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from perfloop.load.engines.heads import Head

BODY_MAX_BYTES = 256 * 2**20  # unpacked; a small response can unpack to any size
NO_HEAD = Head(b"", 0, -1, False)


class ReplyError(Exception):
    """A response is not what the journey needs; ``error`` is the class in which the request ends."""

    def __init__(self, detail: str, error: str = "check") -> None:
        super().__init__(detail)
        self.error = error


class Reply:
    """One answer: ``status`` (0 where none came), ``error`` (empty for a success), ``body``, ``text``, ``json()``, ``header(name)``."""

    __slots__ = ("_head", "_raw", "_unpacked", "error", "latency_s", "size_bytes", "status")

    def __init__(self, head: Head, raw: bytes, error: str, size_bytes: int, latency_s: float) -> None:
        self._head, self._raw, self.error, self.size_bytes, self.latency_s = head, raw, error, size_bytes, latency_s
        self.status = head.status
        self._unpacked: bytes | None = None

    @classmethod
    def failed(cls, error: str, size_bytes: int, latency_s: float) -> Reply:
        """What a journey gets when no answer came."""
        return cls(NO_HEAD, b"", error, size_bytes, latency_s)

    @property
    def ok(self) -> bool:
        """True for an answer with a status below 400."""
        return not self.error

    @property
    def headers(self) -> dict[str, str]:
        """All headers, by lower-case name."""
        return self._head.fields

    @property
    def cookies(self) -> tuple[str, ...]:
        """The values of all Set-Cookie headers."""
        return self._head.cookies

    def header(self, name: str) -> str:
        """One header; empty where it is missing."""
        return self._head.fields.get(name.lower(), "")

    @property
    def body(self) -> bytes:
        """The content, unpacked; ``ReplyError`` where it is not what its Content-Encoding says."""
        if self._unpacked is None:
            self._unpacked = unpack(self._raw, self.header("content-encoding")) if self._raw else b""
        return self._unpacked

    @property
    def text(self) -> str:
        """The content as UTF-8; what is none is replaced."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The content as JSON; ``ReplyError`` where it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise ReplyError(f"the response is no JSON: {error}") from error


def unpack(raw: bytes, encoding: str) -> bytes:
    """A body without its content codings (gzip, deflate, br); ``ReplyError`` where it is damaged or too large."""
    for name in reversed([part.strip().lower() for part in encoding.split(",") if part.strip()]):
        if name in ("gzip", "x-gzip"):
            raw = _inflate(raw, 16 + zlib.MAX_WBITS)
        elif name == "deflate":
            raw = _inflate(raw, zlib.MAX_WBITS)
        elif name == "br":
            raw = _unbrotli(raw)
        elif name != "identity":
            raise ReplyError(f"the response is packed as {name}, which was not asked for", "protocol")
    return raw


def _inflate(raw: bytes, bits: int) -> bytes:
    reader = zlib.decompressobj(bits)
    try:
        out = reader.decompress(raw, BODY_MAX_BYTES)
    except zlib.error as error:
        raise ReplyError(f"the response cannot be unpacked: {error}", "protocol") from error
    if reader.unconsumed_tail:
        raise ReplyError(f"the response unpacks to more than {BODY_MAX_BYTES} bytes", "protocol")
    return out


def _unbrotli(raw: bytes) -> bytes:
    if not find_spec("brotli"):
        raise ReplyError("the response is packed as br, which needs the extra br: pip install 'perfloop[br]'", "protocol")
    brotli = import_module("brotli")
    reader, out = brotli.Decompressor(), bytearray()
    try:
        out += reader.process(raw, output_buffer_limit=BODY_MAX_BYTES)
        while not reader.is_finished() and not reader.can_accept_more_data() and len(out) <= BODY_MAX_BYTES:
            out += reader.process(b"", output_buffer_limit=BODY_MAX_BYTES)
    except brotli.error as error:
        raise ReplyError(f"the response is no br: {error}", "protocol") from error
    if len(out) > BODY_MAX_BYTES:
        raise ReplyError(f"the response unpacks to more than {BODY_MAX_BYTES} bytes", "protocol")
    if not reader.is_finished():
        raise ReplyError("the response is no whole br", "protocol")
    return bytes(out)
