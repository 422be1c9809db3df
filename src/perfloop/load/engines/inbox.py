"""Answers as the kernel got them: sockets that are read when we are awake anyway, and latencies that end when the last packet came.

To be woken for each answer costs more than to send the request. So the answers are read at the next arrival, within ``LOOK_S`` at the latest,
and each counts as answered at the kernel's own time stamp of its last packet (SO_TIMESTAMPNS): late reading does not make a service slower.
Where it could (answers that do not fit into a socket's buffer, servers that wait for our acknowledgement), all are read at once from then on.
"""

from __future__ import annotations

import asyncio
import select
import socket
import sys
import time
from struct import Struct
from typing import Any

from perfloop.load.engines.connection import VIEW, Connection

LOOK_S = 0.001  # an answer lies unread for no longer, as long as the machine lets us run
LARGE_BYTES = 32 * 2**10  # below every system's first receive buffer: nobody waits for room in it
SPLITS_MAX, SPLIT_SHARE_MAX = 20, 0.25  # answers that were not whole when we looked
_SO_TIMESTAMPNS = 35  # of Linux; CPython does not name it
_NOTES_BYTES = socket.CMSG_SPACE(16) if hasattr(socket, "CMSG_SPACE") else 0
_STAMP_SLACK_S = 0.001  # between a packet's stamp and its arrival at the socket
_stamp = Struct("@ll").unpack
_INTO = [VIEW]
_EVENTS_MAX = 256
AVAILABLE = sys.platform == "linux"


class Line:
    """The transport of one connection: what ``Connection`` needs of one. Writes go to the kernel at once, what it does not take follows."""

    __slots__ = ("_inbox", "_left", "_send", "connection", "fd", "receive", "socket")

    def __init__(self, inbox: Inbox, connection: Connection, opened: socket.socket) -> None:
        self._inbox, self.connection, self.socket, self.fd = inbox, connection, opened, opened.fileno()
        self._send, self.receive = opened.send, opened.recvmsg_into
        self._left = b""

    def write(self, data: bytes) -> None:
        """Sends these bytes, now or as soon as the peer takes them."""
        if self._left:
            self._left += data
            return
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.lost(error)
            return
        if sent < len(data):
            self._left = data[sent:]
            self._inbox.watch(self, writing=True)

    def flush(self) -> None:
        """The peer takes bytes again."""
        left, self._left = self._left, b""
        self._inbox.watch(self, writing=False)
        self.write(left)

    def abort(self) -> None:
        """Closes at once."""
        self.lost(None)

    def lost(self, error: OSError | None) -> None:
        """The connection is over; it is told soon, not in the middle of whatever found out."""
        if self.end():
            self._inbox.tell(self.connection, error)

    def end(self) -> bool:
        """Closes the socket; False where that was done before."""
        if not self._inbox.forget(self):
            return False
        self.socket.close()
        return True


class Inbox:
    """All connections whose answers are read by ``read``. ``patient`` as long as nobody has to be woken for them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, patient: bool) -> None:
        self._loop = loop
        self.patient = patient
        self.untold = 0  # connections that are over and have not been told yet, which needs the loop
        self._lines: dict[int, Line] = {}
        self._epoll = select.epoll()
        self._poll = self._epoll.poll
        self._read_s = 0.0  # until then all that had come was read
        self._splits = self._reads = 0
        if not patient:
            loop.add_reader(self._epoll.fileno(), self.read)

    async def connect(self, connection: Connection, host: str, port: int, source: tuple[str, int] | None) -> None:
        """Opens a connection; ``OSError`` where that fails."""
        opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            if source:
                opened.bind(source)
            await self._loop.sock_connect(opened, (host, port))
        except BaseException:
            opened.close()
            raise
        line = Line(self, connection, opened)
        self._lines[line.fd] = line
        self._epoll.register(line.fd, select.EPOLLIN | select.EPOLLRDHUP)
        connection.connection_made(line)  # type: ignore[arg-type]

    def watch(self, line: Line, writing: bool) -> None:
        """Whether the line waits to write. Somebody who waits for that is not to wait for us as well."""
        if writing and self.patient:
            self._be_woken()
        if line.fd in self._lines:
            self._epoll.modify(line.fd, select.EPOLLIN | select.EPOLLRDHUP | (select.EPOLLOUT if writing else 0))

    def forget(self, line: Line) -> bool:
        """The line is of no more interest; False where it was not any more."""
        if self._lines.get(line.fd) is not line:
            return False
        del self._lines[line.fd]
        self._epoll.unregister(line.fd)
        return True

    def tell(self, connection: Connection, error: OSError | None) -> None:
        """Tells a connection that it is over, soon."""
        self.untold += 1
        self._loop.call_soon(self._told, connection, error)

    def read(self) -> None:
        """Reads what has come since the last time, and hands it to its connections."""
        events = self._poll(0, _EVENTS_MAX)
        now_s = time.monotonic()
        if events:
            now_ns, age_max_s = time.time_ns(), now_s - self._read_s + _STAMP_SLACK_S
            for fd, event in events:
                line = self._lines.get(fd)
                if line is None:
                    continue
                if event & select.EPOLLOUT:
                    line.flush()
                if event != select.EPOLLOUT:
                    self._receive(line, now_s, now_ns, age_max_s)
        if len(events) < _EVENTS_MAX:
            self._read_s = now_s

    def close(self) -> None:
        """No more reading; the lines are closed by their connections."""
        if not self._epoll.closed:
            if not self.patient:
                self._loop.remove_reader(self._epoll.fileno())
            for line in tuple(self._lines.values()):
                line.lost(None)
            self._epoll.close()

    def _receive(self, line: Line, now_s: float, now_ns: int, age_max_s: float) -> None:
        connection = line.connection
        try:
            size, notes, _, _ = line.receive(_INTO, _NOTES_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(line, now_s, error)
            return
        if not size:
            self._lost(line, now_s, None)
            return
        connection.read_at_s = now_s - _age_s(notes, now_ns, age_max_s)
        connection.buffer_updated(size)
        if self.patient:
            self._reads += 1
            if size > LARGE_BYTES:
                self._be_woken()
            elif connection.size_bytes and connection.call is not None:
                self._splits += 1
                if self._splits > SPLITS_MAX and self._splits > SPLIT_SHARE_MAX * self._reads:
                    self._be_woken()

    def _lost(self, line: Line, now_s: float, error: OSError | None) -> None:
        """Told at once: nothing may be sent on it any more."""
        line.connection.read_at_s = now_s
        if line.end():
            line.connection.connection_lost(error)

    def _told(self, connection: Connection, error: OSError | None) -> None:
        self.untold -= 1
        connection.connection_lost(error)

    def _be_woken(self) -> None:
        self.patient = False
        self._loop.add_reader(self._epoll.fileno(), self.read)


def _age_s(notes: list[tuple[int, int, Any]], now_ns: int, age_max_s: float) -> float:
    """How long ago the kernel got what was read last. Bounded by what can be, so that a step of the wall clock is no latency."""
    for level, kind, data in notes:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, ns = _stamp(data)
            return float(min(max(0.0, (now_ns - seconds * 1_000_000_000 - ns) * 1e-9), age_max_s))
    return 0.0
