"""The heads of responses, read once: a service sends few different ones, so the next with the same bytes is looked up, not parsed.

Only plain heads are read here: HTTP/1.1, one Content-Length, no transfer coding, nothing that closes the connection. All others
are left to the real parser (``response.py``), which is also the oracle that this reader is tested against.
"""

from __future__ import annotations

import re
from typing import Any

CACHE_MAX = 2_048  # heads kept; a service that makes each one different only empties the cache
CACHED_HEAD_MAX_BYTES = 4_096
_PLAIN = re.compile(rb"HTTP/1\.1 ([2-5]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*)*")
_SPECIAL = re.compile(rb"\r\n(content-length|transfer-encoding|connection|upgrade|proxy-connection|keep-alive):[\t ]*([^\r]*)", re.IGNORECASE)
_LENGTH = re.compile(rb"\d{1,12}")
_FIELD = re.compile(rb"\r\n([^:\r\n]+):[\t ]*([^\r\n]*)")


class Head:
    """Status and headers of one response. ``rest`` is the length of body and blank line behind a plain head, else −1."""

    __slots__ = ("_cookies", "_fields", "error", "keep_alive", "raw", "rest", "sets_cookie", "status")

    def __init__(self, raw: bytes, status: int, rest: int, keep_alive: bool) -> None:
        self.raw, self.status, self.rest, self.keep_alive = raw, status, rest, keep_alive
        self.error = class_of(status)
        self.sets_cookie = b"\r\nset-cookie:" in raw.lower()
        self._fields: dict[str, str] | None = None
        self._cookies: tuple[str, ...] | None = None

    @property
    def fields(self) -> dict[str, str]:
        """Headers by lower-case name; of several with one name the values are joined with commas."""
        if self._fields is None:
            self._fields = {}
            for name, value in _FIELD.findall(self.raw):
                key, text = name.decode("latin-1").strip().lower(), value.decode("latin-1").strip()
                self._fields[key] = f"{self._fields[key]}, {text}" if key in self._fields else text
        return self._fields

    @property
    def cookies(self) -> tuple[str, ...]:
        """The values of all Set-Cookie headers."""
        if self._cookies is None:
            self._cookies = tuple(v.decode("latin-1").strip() for n, v in _FIELD.findall(self.raw) if n.lower() == b"set-cookie")
        return self._cookies


def class_of(status: int) -> str:
    """The class of an answer with this status: empty for a success (1xx to 3xx), else ``status_4xx``, ``status_5xx`` or ``protocol``."""
    if 100 <= status < 400:
        return ""
    return {4: "status_4xx", 5: "status_5xx"}.get(status // 100, "protocol")


class Heads:
    """Plain heads by their bytes; ``get`` is the dictionary's own, for the reader's shortest way."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}
        self.get: Any = self._known.get

    def read(self, raw: bytes) -> Head | None:
        """The head of these bytes (without the blank line), or None where it is not plain."""
        head = self._known.get(raw)
        if head is None:
            head = read_plain(raw)
            if head is not None and len(raw) <= CACHED_HEAD_MAX_BYTES:
                if len(self._known) >= CACHE_MAX:
                    self._known.clear()
                self._known[raw] = head
        return head


def read_plain(raw: bytes) -> Head | None:
    """Reads a head; None where anything in it needs more than a length to find the end of the response."""
    match = _PLAIN.fullmatch(raw)
    if match is None:
        return None
    status, length = int(match[1]), -1
    for name, value in _SPECIAL.findall(raw):
        if name.lower() == b"connection":
            if value.strip().lower() != b"keep-alive":
                return None
        elif name.lower() == b"content-length" and length < 0 and _LENGTH.fullmatch(value.rstrip(b"\t ")):
            length = int(value)
        elif name.lower() != b"keep-alive":
            return None
    if status in (204, 304):
        length = 0 if length <= 0 else -1
    return Head(raw, status, length + 4, True) if length >= 0 else None
