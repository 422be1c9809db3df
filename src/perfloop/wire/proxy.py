"""The connections through a tap: bytes and order kept, each turn of the client delayed, what passes counted and timed."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field

from perfloop.wire.groups import Groups
from perfloop.wire.protocols import Opaque, watcher

CHUNK_BYTES = 65_536
BUFFERED_MAX_BYTES = 1 << 20
CONNECTIONS_MAX = 10_000
CONNECT_S = 10.0
CLOSE_S = 2.0
#: where nobody renews it, a delay ends: whoever set it may have died
DELAY_LEASE_S = 30.0


@dataclass
class Counters:
    """Totals since the start. ``refused``: connections for which the upstream could not be reached, or that were too many. ``delayed_s``: how long turns
    were in fact held back, the tap's own time included. ``busy``: connections in use, in which the client has spoken last or a transaction is open; ``busy_max`` the most
    at once since the counters were last read. ``opaque``: connections that could not be read, by reason; they pass, are counted and delayed."""

    connections: int = 0
    open: int = 0
    refused: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    round_trips: int = 0
    delayed_s: float = 0.0
    busy: int = 0
    busy_max: int = 0
    opaque: dict[str, int] = field(default_factory=dict)
    per_connection: deque[int] = field(default_factory=lambda: deque(maxlen=1000))  # round trips of the connections that ended, newest last


class Proxy:
    """One listener's connections to one upstream."""

    def __init__(self, host: str, port: int, delay_ms: float, protocol: str = "tcp", mark: int = 0) -> None:
        self.upstream, self.protocol, self.mark = (host, port), protocol, mark
        self.counters, self.groups = Counters(), Groups()
        self.turns: dict[int, int] = {}
        self.ended = asyncio.Event()  # set when a draining tap has no connection left
        self.draining = False
        self._delay_ms, self._delay_until_s = delay_ms, float("inf")
        self._tasks: set[asyncio.Task[None]] = set()
        self._conversations: set[_Conversation] = set()

    @property
    def delay_ms(self) -> float:
        """The delay of a turn that begins now."""
        return self._delay_ms if asyncio.get_running_loop().time() < self._delay_until_s else 0.0

    def set_delay(self, delay_ms: float, lease_s: float = float("inf")) -> None:
        """From now on, for so many seconds."""
        self._delay_ms, self._delay_until_s = delay_ms, asyncio.get_running_loop().time() + lease_s

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until both directions have ended."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        counters = self.counters
        if counters.open >= CONNECTIONS_MAX:
            counters.refused += 1
            writer.transport.abort()
            return
        counters.connections += 1
        counters.open += 1
        try:
            try:
                up_reader, up_writer = await asyncio.wait_for(self._connect(), CONNECT_S)
            except (OSError, TimeoutError):
                counters.refused += 1
                writer.transport.abort()  # the client sees a reset, as from a server that is down
                return
            conversation = _Conversation(self, reader, writer, up_reader, up_writer)
            self._conversations.add(conversation)
            try:
                await conversation.run()
            finally:
                self._conversations.discard(conversation)
        finally:
            counters.open -= 1
            self.drain() if self.draining else None

    def drain(self) -> None:
        """No delay any more, and the end when the last connection has ended."""
        self.draining = True
        self.set_delay(0.0)
        if not self.counters.open:
            self.ended.set()

    async def close(self) -> None:
        """End all connections."""
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S)

    def report(self) -> str:
        """The counters as one line of JSON; ``live`` are the round trips of connections still open."""
        for conversation in self._conversations:
            conversation.watcher.settle()
        counters = self.counters
        said = {**counters.__dict__, "delay_ms": self.delay_ms, "per_connection": list(counters.per_connection), "live": sorted(self.turns.values())}
        counters.busy_max = counters.busy
        return json.dumps({**said, "groups": self.groups.report()})

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not self.mark:
            return await asyncio.open_connection(*self.upstream, limit=CHUNK_BYTES)
        import socket

        loop = asyncio.get_running_loop()
        family, kind, number, _, address = (await loop.getaddrinfo(*self.upstream, type=socket.SOCK_STREAM))[0]
        upstream = socket.socket(family, kind, number)
        try:
            upstream.setblocking(False)
            upstream.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.mark)  # by which the redirect spares us
            await loop.sock_connect(upstream, address)
            return await asyncio.open_connection(sock=upstream, limit=CHUNK_BYTES)
        except BaseException:
            upstream.close()
            raise


class _Conversation:
    """Both directions of one connection. ``_client_turn`` is True while the client speaks."""

    def __init__(
        self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up_reader: asyncio.StreamReader, up_writer: asyncio.StreamWriter
    ) -> None:
        self._proxy, self._reader, self._writer, self._up_reader, self._up_writer = proxy, reader, writer, up_reader, up_writer
        self._queue: asyncio.Queue[tuple[float, float, bytes]] = asyncio.Queue()  # due, when the turn began (0: in the midst of one), bytes
        self._room = asyncio.Event()
        self._queued = 0
        self._client_turn = self._busy = False
        self._turn_due = 0.0
        self.watcher = watcher(proxy.protocol, proxy.groups)
        self._readable = True

    async def run(self) -> None:
        """Copy until both sides have closed their half, or one side broke."""
        self._proxy.turns[id(self)] = 0
        self._room.set()
        parts = [asyncio.ensure_future(part) for part in (self._listen(), self._send_late(), self._answer())]
        try:
            await asyncio.gather(*parts)
        except (OSError, EOFError):
            pass  # a reset on either side ends both
        finally:
            for part in parts:
                part.cancel()
            self.watcher.settle()
            self._note_use(False)
            self._proxy.counters.per_connection.append(self._proxy.turns.pop(id(self)))
            for writer in (self._writer, self._up_writer):
                writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _listen(self) -> None:
        """Take from the client, note when it is due at the server."""
        clock = asyncio.get_running_loop().time
        while data := await self._reader.read(CHUNK_BYTES):
            counters, began_s = self._proxy.counters, 0.0
            if not self._client_turn:
                self._client_turn = True
                counters.round_trips += 1
                self._proxy.turns[id(self)] += 1
                self._note_use(True)
                began_s = clock()
                self._turn_due = began_s + self._proxy.delay_ms / 1000
            counters.bytes_up += len(data)
            self._queued += len(data)
            self._queue.put_nowait((self._turn_due, began_s, data))
            if self._queued > BUFFERED_MAX_BYTES:
                self._room.clear()
                await self._room.wait()
        self._queue.put_nowait((self._turn_due, 0.0, b""))

    async def _send_late(self) -> None:
        """Pass on to the server what is due; an empty piece is the client's end of sending."""
        clock = asyncio.get_running_loop().time
        while True:
            due, began_s, data = await self._queue.get()
            if (wait := due - clock()) > 0:
                await asyncio.sleep(wait)
            if not data:
                _half_close(self._up_writer)
                return
            now_s = clock()
            self._proxy.counters.delayed_s += now_s - began_s if began_s else 0.0
            self._up_writer.write(data)
            self._watch(True, data, now_s)
            await self._up_writer.drain()
            self._queued -= len(data)
            if self._queued <= BUFFERED_MAX_BYTES:
                self._room.set()

    async def _answer(self) -> None:
        """Pass on to the client at once."""
        clock = asyncio.get_running_loop().time
        while data := await self._up_reader.read(CHUNK_BYTES):
            self._client_turn = False
            self._proxy.counters.bytes_down += len(data)
            self._writer.write(data)
            self._watch(False, data, clock())
            self._note_use(self.watcher.held)
            await self._writer.drain()
        _half_close(self._writer)

    def _watch(self, from_client: bool, data: bytes, now_s: float) -> None:
        """Show a copy to the watcher, until it cannot read on."""
        if not self._readable:
            return
        try:
            self.watcher.client(data, now_s) if from_client else self.watcher.server(data, now_s)
        except (Opaque, ValueError, LookupError, ArithmeticError) as error:  # whatever strangers send: it must pass
            reason = str(error) if isinstance(error, Opaque) else "it does not keep to the protocol"
            self._readable, self.watcher.held = False, False
            opaque = self._proxy.counters.opaque
            opaque[reason] = opaque.get(reason, 0) + 1

    def _note_use(self, busy: bool) -> None:
        if busy != self._busy:
            counters = self._proxy.counters
            self._busy = busy
            counters.busy += 1 if busy else -1
            counters.busy_max = max(counters.busy_max, counters.busy)


def _half_close(writer: asyncio.StreamWriter) -> None:
    if writer.can_write_eof() and not writer.transport.is_closing():
        writer.write_eof()
