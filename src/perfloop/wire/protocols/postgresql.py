"""PostgreSQL, frontend/backend protocol 3 (documentation, "Message Formats"): simple and extended queries, prepared statements, pipelines."""

from __future__ import annotations

import struct

from perfloop.wire.groups import Groups, statement
from perfloop.wire.protocols.base import Frames, Opaque, Watcher

_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102
_STATEMENTS_MAX = 5000
_SYNC = "\0\0"


def _length(head: bytes) -> int:
    length: int = struct.unpack("!i", head[-4:])[0]
    return length - 4


class Connection(Watcher):
    """One connection, from its start-up packet on."""

    def __init__(self, groups: Groups) -> None:
        super().__init__(groups)
        self._from_client, self._from_server = Frames(), Frames(keep_bytes=16)
        self._started = False
        self._asked_tls = False
        self._statements: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}

    def client(self, data: bytes, now_s: float) -> None:
        """See ``Watcher``."""
        if not self._started:
            self._start(data)  # a client waits for the server's answer before it says more
            return
        for head, body in self._from_client.feed(data, 5, _length):
            self._said(head[:1], body, now_s)

    def server(self, data: bytes, now_s: float) -> None:
        """See ``Watcher``."""
        if self._asked_tls:
            self._asked_tls = False
            if data[:1] in (b"S", b"G"):
                raise Opaque("TLS" if data[:1] == b"S" else "GSSAPI encryption")
            data = data[1:]
        for head, body in self._from_server.feed(data, 5, _length):
            kind = head[:1]
            if kind in (b"C", b"I", b"s") and self._pending and not self._pending[0][0].startswith("\0"):
                self.answered(now_s)
            elif kind == b"E":
                self._failed(now_s)
            elif kind == b"Z":
                self.held = body[:1] in (b"T", b"E")
                self._ready(now_s)

    def _start(self, data: bytes) -> None:
        """Requests for encryption, then the start-up packet."""
        if data[:1] == b"\x16":
            raise Opaque("TLS")
        for _, body in self._from_client.feed(data, 4, _length):
            code = struct.unpack("!i", body[:4])[0]
            if code in (_SSL, _GSS):
                self._asked_tls = True
                return
            if code == _CANCEL:
                raise Opaque("a cancel request")
            if code >> 16 != 3:
                raise Opaque("not PostgreSQL's protocol 3")
            self._started = True

    def _said(self, kind: bytes, body: bytes, now_s: float) -> None:
        if kind == b"Q":
            self.ask("\0" + statement(_text(body)), now_s)  # several statements may stand in it: it is answered when the server is ready again
        elif kind == b"P":
            name, _, rest = body.partition(b"\0")
            if len(self._statements) >= _STATEMENTS_MAX:
                self._statements.clear()
            self._statements[name] = statement(_text(rest))
        elif kind == b"B":
            portal, _, rest = body.partition(b"\0")
            self._portals[portal] = self._statements.get(rest.partition(b"\0")[0], "(a statement prepared before the tap)")
            if len(self._portals) > _STATEMENTS_MAX:
                self._portals.clear()
        elif kind == b"E":
            self.ask(self._portals.get(body.partition(b"\0")[0], "(an unknown portal)"), now_s)
        elif kind == b"S":
            self.ask(_SYNC, now_s)

    def _failed(self, now_s: float) -> None:
        """The rest until the next sync is skipped by the server."""
        while self._pending and self._pending[0][0] != _SYNC:
            label, asked_s = self._pending.popleft()
            self._groups.add(label.lstrip("\0"), now_s - asked_s, error=True)
            if label.startswith("\0"):
                break

    def _ready(self, now_s: float) -> None:
        if self._pending and self._pending[0][0].startswith("\0"):
            label, asked_s = self._pending.popleft()
            if label != _SYNC:
                self._groups.add(label.lstrip("\0"), now_s - asked_s)


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="replace")
