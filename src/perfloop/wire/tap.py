"""A TCP proxy that counts and delays: ``python -m perfloop.wire.tap --listen 127.0.0.1:0 --to HOST:PORT [--delay-ms D]``.

It understands no protocol. A round trip is a turn of the conversation: the client speaks after the server has (or first). Every
turn of the client is delayed by D on its way to the server; order and bytes are kept, and what follows within the same turn waits
only for what is left of the delay, so a turn in several segments costs D once.

First line on stdout: ``{"port": …}``. Then each line on stdin is a command, answered by one line of JSON:
``counters``, ``delay D`` (milliseconds, from now on), ``quit``. It ends when its stdin closes, unless ``--detach``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections import deque
from dataclasses import asdict, dataclass, field

CHUNK_BYTES = 65_536
BUFFERED_MAX_BYTES = 1 << 20
CONNECTIONS_MAX = 10_000
CONNECT_S = 10.0
DELAY_MAX_MS = 10_000.0
CLOSE_S = 2.0


@dataclass
class Counters:
    """Totals since the start. ``refused``: connections for which the upstream could not be reached, or that were too many."""

    connections: int = 0
    open: int = 0
    refused: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    round_trips: int = 0
    delay_ms: float = 0.0
    per_connection: deque[int] = field(default_factory=lambda: deque(maxlen=1000))  # round trips of the connections that ended, newest last


class Tap:
    """One listener and the connections through it."""

    def __init__(self, host: str, port: int, delay_ms: float) -> None:
        self.upstream = (host, port)
        self.counters = Counters(delay_ms=delay_ms)
        self._tasks: set[asyncio.Task[None]] = set()
        self.turns: dict[int, int] = {}

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
                up_reader, up_writer = await asyncio.wait_for(asyncio.open_connection(*self.upstream, limit=CHUNK_BYTES), CONNECT_S)
            except (OSError, TimeoutError):
                counters.refused += 1
                writer.transport.abort()  # the client sees a reset, as from a server that is down
                return
            await _Conversation(self, reader, writer, up_reader, up_writer).run()
        finally:
            counters.open -= 1

    async def close(self) -> None:
        """End all connections."""
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S)

    def report(self) -> str:
        """The counters as one line of JSON; ``live`` are the round trips of connections still open."""
        return json.dumps({**asdict(self.counters), "per_connection": list(self.counters.per_connection), "live": sorted(self.turns.values())})


class _Conversation:
    """Both directions of one connection. ``_client_turn`` is True while the client speaks."""

    def __init__(
        self, tap: Tap, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up_reader: asyncio.StreamReader, up_writer: asyncio.StreamWriter
    ) -> None:
        self._tap, self._reader, self._writer, self._up_reader, self._up_writer = tap, reader, writer, up_reader, up_writer
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._room = asyncio.Event()
        self._queued = 0
        self._client_turn = False
        self._turn_due = 0.0

    async def run(self) -> None:
        """Copy until both sides have closed their half, or one side broke."""
        self._tap.turns[id(self)] = 0
        self._room.set()
        parts = [asyncio.ensure_future(part) for part in (self._listen(), self._send_late(), self._answer())]
        try:
            await asyncio.gather(*parts)
        except (OSError, EOFError):
            pass  # a reset on either side ends both
        finally:
            for part in parts:
                part.cancel()
            self._tap.counters.per_connection.append(self._tap.turns.pop(id(self)))
            for writer in (self._writer, self._up_writer):
                writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _listen(self) -> None:
        """Take from the client, note when it is due at the server."""
        clock = asyncio.get_running_loop().time
        while data := await self._reader.read(CHUNK_BYTES):
            counters = self._tap.counters
            if not self._client_turn:
                self._client_turn = True
                counters.round_trips += 1
                self._tap.turns[id(self)] += 1
                self._turn_due = clock() + counters.delay_ms / 1000
            counters.bytes_up += len(data)
            self._queued += len(data)
            self._queue.put_nowait((self._turn_due, data))
            if self._queued > BUFFERED_MAX_BYTES:
                self._room.clear()
                await self._room.wait()
        self._queue.put_nowait((self._turn_due, b""))

    async def _send_late(self) -> None:
        """Pass on to the server what is due; an empty piece is the client's end of sending."""
        clock = asyncio.get_running_loop().time
        while True:
            due, data = await self._queue.get()
            if (wait := due - clock()) > 0:
                await asyncio.sleep(wait)
            if not data:
                _half_close(self._up_writer)
                return
            self._up_writer.write(data)
            await self._up_writer.drain()
            self._queued -= len(data)
            if self._queued <= BUFFERED_MAX_BYTES:
                self._room.set()

    async def _answer(self) -> None:
        """Pass on to the client at once."""
        while data := await self._up_reader.read(CHUNK_BYTES):
            self._client_turn = False
            self._tap.counters.bytes_down += len(data)
            self._writer.write(data)
            await self._writer.drain()
        _half_close(self._writer)


def _half_close(writer: asyncio.StreamWriter) -> None:
    if writer.can_write_eof() and not writer.transport.is_closing():
        writer.write_eof()


async def run(listen: tuple[str, int], to: tuple[str, int], delay_ms: float, detach: bool) -> int:
    """Listen until told to stop; returns the exit code."""
    tap = Tap(*to, delay_ms)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    try:
        server = await asyncio.start_server(tap.serve, *listen, limit=CHUNK_BYTES)
    except OSError as error:
        _say(json.dumps({"error": f"cannot listen on {listen[0]}:{listen[1]}: {error.strerror or error}"}))
        return 3
    _say(json.dumps({"port": server.sockets[0].getsockname()[1], "pid": os.getpid()}))
    commands = None if detach else asyncio.ensure_future(_obey(tap, ended))
    await ended.wait()
    server.close()
    await tap.close()
    if commands:
        commands.cancel()
    return 0


async def _obey(tap: Tap, ended: asyncio.Event) -> None:
    """Read commands from stdin until it closes."""
    reader = asyncio.StreamReader(limit=1024)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            words = line.decode(errors="replace").split()
            if words[:1] in (["quit"], ["q"]):
                break
            if words[:1] == ["delay"] and len(words) == 2:
                try:
                    tap.counters.delay_ms = _delay(words[1])
                except argparse.ArgumentTypeError as error:
                    _say(json.dumps({"error": str(error)}))
                    continue
            elif words != ["counters"]:
                _say(json.dumps({"error": "commands are: counters, delay MILLISECONDS, quit"}))
                continue
            _say(tap.report())
    except ValueError:
        pass  # a line without end
    finally:
        ended.set()


def _say(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:
        pass  # whoever listened is gone; the closed stdin ends us


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port")
    return host.strip("[]"), int(port)


def _delay(text: str) -> float:
    try:
        delay_ms = float(text)
    except ValueError:
        delay_ms = -1.0
    if not 0 <= delay_ms <= DELAY_MAX_MS:
        raise argparse.ArgumentTypeError(f"delay {text} is outside 0 to {DELAY_MAX_MS:g} ms")
    return delay_ms


def main(arguments: list[str] | None = None) -> int:
    """The process's entry; returns the exit code."""
    parser = argparse.ArgumentParser(prog="perfloop.wire.tap", description="A TCP proxy that counts round trips and can delay them.")
    parser.add_argument("--listen", type=_address, default=("127.0.0.1", 0))
    parser.add_argument("--to", type=_address, required=True)
    parser.add_argument("--delay-ms", type=_delay, default=0.0)
    parser.add_argument("--detach", action="store_true", help="go on when stdin closes; end by SIGTERM")
    given = parser.parse_args(arguments)
    return asyncio.run(run(given.listen, given.to, given.delay_ms, given.detach))


if __name__ == "__main__":
    sys.exit(main())
