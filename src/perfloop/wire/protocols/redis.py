"""Redis, RESP 2 and 3: commands by name and the head of their key; pipelines are several commands in one turn."""

from __future__ import annotations

from perfloop.wire.groups import Groups, key
from perfloop.wire.protocols.base import Opaque, Watcher

_LINE_MAX_BYTES = 65_536
_KEPT_BYTES = 256
_KEYLESS = frozenset(
    [
        "AUTH",
        "HELLO",
        "PING",
        "ECHO",
        "INFO",
        "CONFIG",
        "CLIENT",
        "COMMAND",
        "SELECT",
        "MULTI",
        "EXEC",
        "DISCARD",
        "WATCH",
        "UNWATCH",
        "SCAN",
        "DBSIZE",
        "EVAL",
        "EVALSHA",
        "SCRIPT",
        "FCALL",
        "PUBLISH",
        "SUBSCRIBE",
        "QUIT",
    ]
)


class Connection(Watcher):
    """One connection."""

    def __init__(self, groups: Groups) -> None:
        super().__init__(groups)
        self._asked, self._told = _Resp(), _Resp()
        self._begun = False

    def client(self, data: bytes, now_s: float) -> None:
        """See ``Watcher``."""
        if not self._begun:
            self._begun = True
            if data[:1] == b"\x16":
                raise Opaque("TLS")
        for kind, words in self._asked.feed(data):
            if kind == "inline":
                words = words[0].split() if words else []
            if not words:
                continue
            name = words[0].decode(errors="replace").upper()
            if not name.isalpha():
                raise Opaque("not Redis' protocol")
            keyed = name not in _KEYLESS and len(words) > 1
            self.ask(f"{name} {key(words[1].decode(errors='replace'))}" if keyed else name, now_s)

    def server(self, data: bytes, now_s: float) -> None:
        """See ``Watcher``."""
        for kind, _ in self._told.feed(data):
            if kind != "push":
                self.answered(now_s, error=kind == "error")


class _Resp:
    """Splits a stream of RESP into top-level values: (kind, first bytes of its flat strings)."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._open: list[int] = []  # elements still missing, by depth
        self._bulk = -1  # bytes of a string still missing, its end of line included
        self._word = bytearray()
        self._words: list[bytes] = []
        self._kind = ""

    def feed(self, data: bytes) -> list[tuple[str, list[bytes]]]:
        found: list[tuple[str, list[bytes]]] = []
        at = 0
        while at < len(data):
            if self._bulk >= 0:
                take = data[at : at + self._bulk]
                at += len(take)
                self._word += take[: max(0, _KEPT_BYTES - len(self._word))]
                self._bulk -= len(take)
                if self._bulk == 0:
                    self._bulk = -1
                    self._words.append(bytes(self._word).removesuffix(b"\r\n"))
                    self._word.clear()
                    self._complete(found)
                continue
            end = data.find(b"\n", at)
            self._line += data[at : len(data) if end < 0 else end + 1]
            at = len(data) if end < 0 else end + 1
            if end >= 0:
                line = bytes(self._line).rstrip(b"\r\n")
                self._line.clear()
                self._value(line, found)
            elif len(self._line) > _LINE_MAX_BYTES:
                raise Opaque("a line without end")
        return found

    def _value(self, line: bytes, found: list[tuple[str, list[bytes]]]) -> None:
        mark, rest = line[:1], line[1:]
        if not self._open:
            self._words = []
            self._kind = {b"-": "error", b"!": "error", b">": "push"}.get(mark, "value" if mark in b"*$+:_#,(=%~|" and mark else "inline")
        if mark in (b"*", b"~", b">", b"%", b"|") and mark:
            count = _number(rest) * (2 if mark in (b"%", b"|") else 1)
            if mark == b"|":
                count += 1  # attributes stand before the value they belong to
            if count > 0:
                self._open.append(count)
                return
        elif mark in (b"$", b"=", b"!") and mark:
            size = _number(rest)
            if size >= 0:
                self._bulk = size + 2
                return
        elif self._kind == "inline":
            self._words.append(line[:_KEPT_BYTES])
        self._complete(found)

    def _complete(self, found: list[tuple[str, list[bytes]]]) -> None:
        while self._open:
            self._open[-1] -= 1
            if self._open[-1] > 0:
                return
            self._open.pop()
        found.append((self._kind, self._words))


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise Opaque("not Redis' protocol") from None
