"""MySQL and MariaDB, client/server protocol (MySQL internals manual): queries and prepared statements. It is half duplex: an answer ends where the next command begins."""

from __future__ import annotations

import struct

from perfloop.wire.groups import Groups, statement
from perfloop.wire.protocols.base import Frames, Opaque, Watcher

_SSL, _COMPRESS, _ZSTD = 0x0800, 0x0020, 0x04000000
_QUIT, _QUERY, _PREPARE, _EXECUTE, _LONG_DATA, _CLOSE = 0x01, 0x03, 0x16, 0x17, 0x18, 0x19
_NAMES = {0x02: "(use a database)", 0x0E: "(ping)", 0x1A: "(reset a statement)", 0x1C: "(fetch)", 0x1F: "(reset the connection)"}
_UNANSWERED = (_QUIT, _LONG_DATA, _CLOSE)
_STATEMENTS_MAX = 5000


def _length(head: bytes) -> int:
    return head[0] | head[1] << 8 | head[2] << 16


class Connection(Watcher):
    """One connection, from the server's greeting on."""

    def __init__(self, groups: Groups) -> None:
        super().__init__(groups)
        self._from_client, self._from_server = Frames(), Frames(keep_bytes=16)
        self._logged_in = False
        self._statements: dict[int, str] = {}
        self._preparing = ""
        self._label = ""
        self._asked_s = self._last_s = 0.0
        self._first = b""  # of the answer

    def client(self, data: bytes, now_s: float) -> None:
        """See ``Watcher``."""
        for head, body in self._from_client.feed(data, 4, _length):
            if not self._logged_in:
                if head[3] <= 1:
                    self._hello(body)
                continue
            if head[3] == 0 and body:
                self._command(body, now_s)

    def server(self, data: bytes, now_s: float) -> None:
        """See ``Watcher``."""
        for head, body in self._from_server.feed(data, 4, _length):
            if not self._logged_in:
                if head[3] >= 2 and body[:1] == b"\0":
                    self._logged_in = True
                continue
            if not self._first:
                self._first = body[:16]
                if self._preparing and body[:1] == b"\0" and len(body) >= 5:
                    if len(self._statements) >= _STATEMENTS_MAX:
                        self._statements.clear()
                    self._statements[struct.unpack_from("<I", body, 1)[0]] = self._preparing
                self._preparing = ""
            self._last_s = now_s

    def settle(self) -> None:
        """See ``Watcher``."""
        if self._label and self._first:
            self._groups.add(self._label, self._last_s - self._asked_s, error=self._first[:1] == b"\xff")
            self._label = ""

    def _hello(self, body: bytes) -> None:
        if len(body) < 4:
            raise Opaque("not MySQL's protocol")
        flags = struct.unpack_from("<I", body)[0]
        if flags & _SSL and len(body) <= 36:
            raise Opaque("TLS")
        if flags & (_COMPRESS | _ZSTD):
            raise Opaque("compression")

    def _command(self, body: bytes, now_s: float) -> None:
        self.settle()
        code = body[0]
        if code in _UNANSWERED:
            return
        self._first, self._preparing = b"", ""
        self._asked_s = self._last_s = now_s
        if code in (_QUERY, _PREPARE):
            text = statement(_sql(body[1:]).decode(errors="replace"), double_quotes=True)
            self._preparing = text if code == _PREPARE else ""
            self._label = f"(prepare) {text}" if code == _PREPARE else text
        elif code == _EXECUTE and len(body) >= 5:
            self._label = self._statements.get(struct.unpack_from("<I", body, 1)[0], "(a statement prepared before the tap)")
        else:
            self._label = _NAMES.get(code, f"(command {code})")


def _sql(body: bytes) -> bytes:
    """Without the query attributes' two counts, which some clients send before the text."""
    return body[2:] if body[:2] == b"\x00\x01" else body
