"""What every watcher does, and the queue of questions that wait for their answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from perfloop.wire.groups import Groups

PENDING_MAX = 10_000


class Opaque(Exception):
    """The bytes cannot be read any further: encrypted, compressed, or not of the protocol."""


class Watcher:
    """One connection. ``client`` and ``server`` get the bytes of each direction in order, with the time (seconds) at which they were passed on.

    ``held`` is True while the connection belongs to one user although nobody speaks (inside a transaction).
    """

    held = False

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._pending: deque[tuple[str, float]] = deque()

    def client(self, data: bytes, now_s: float) -> None:
        """Bytes for the server. ``Opaque`` where they cannot be read."""

    def server(self, data: bytes, now_s: float) -> None:
        """Bytes for the client. ``Opaque`` where they cannot be read."""

    def settle(self) -> None:
        """Count what is known to be answered though nothing marks its end."""

    def ask(self, label: str, now_s: float) -> None:
        """A question was sent."""
        if len(self._pending) >= PENDING_MAX:
            raise Opaque("more questions without an answer than can be followed")
        self._pending.append((label, now_s))

    def answered(self, now_s: float, error: bool = False) -> None:
        """The oldest question was answered."""
        if self._pending:
            label, asked_s = self._pending.popleft()
            self._groups.add(label, now_s - asked_s, error)


class Frames:
    """Splits a stream into messages of known length; of a long one only its first bytes are kept."""

    def __init__(self, keep_bytes: int = 65_536) -> None:
        self._keep = keep_bytes
        self._head = b""
        self._body = bytearray()
        self._missing = -1  # bytes of the body still to come; -1: the head is not complete

    def feed(self, data: bytes, head_bytes: int, length_of: Callable[[bytes], int]) -> list[tuple[bytes, bytes]]:
        """The messages that these bytes complete, as (head, body); ``length_of(head)`` is the length of the body."""
        found: list[tuple[bytes, bytes]] = []
        at = 0
        while at < len(data) or self._missing == 0:
            if self._missing < 0:
                take = data[at : at + head_bytes - len(self._head)]
                self._head += take
                at += len(take)
                if len(self._head) < head_bytes:
                    break
                self._missing = length_of(self._head)
                if self._missing < 0:
                    raise Opaque("a length below zero")
            take = data[at : at + self._missing]
            at += len(take)
            self._missing -= len(take)
            self._body += take[: max(0, self._keep - len(self._body))]
            if self._missing:
                break
            found.append((self._head, bytes(self._body)))
            self._head, self._missing = b"", -1
            self._body.clear()
        return found
