"""A TCP proxy that counts, times, groups and delays: ``python -m perfloop.wire.tap --listen 127.0.0.1:0 --to HOST:PORT [--protocol postgresql] [--delay-ms D]``.

A round trip is a turn of the conversation: the client speaks after the server has (or first). Every turn of the client is delayed by D on its way to
the server; order and bytes are kept, and what follows within the same turn waits only for what is left of the delay, so a turn in several segments costs D once.
With a protocol it also reads what passes; it never ends an encrypted connection, so that certificates and channel binding hold: what it cannot read, it passes, counts and delays.

First line on stdout: ``{"port": …}``. Then each line is a command, answered by one line of JSON: ``counters``, ``delay D`` (milliseconds, from now on),
``drain`` (no delay any more, and end when the last connection has), ``quit``. They come on stdin, with which it ends; with ``--control PATH`` on a Unix socket
of its owner alone: then it outlives whoever started it, a delay lasts for 30 s unless it is given again, and where nobody asks within a minute it ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perfloop.wire.protocols import PROTOCOLS
from perfloop.wire.proxy import CHUNK_BYTES, DELAY_LEASE_S, Proxy

DELAY_MAX_MS = 10_000.0
UNCLAIMED_MAX_S = 60.0


async def run(given: argparse.Namespace) -> int:
    """Listen until told to stop; returns the exit code."""
    proxy = Proxy(given.to[0], given.to[1], given.delay_ms, given.protocol, given.mark)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, proxy.ended.set)
    try:
        server = await asyncio.start_server(proxy.serve, *given.listen, limit=CHUNK_BYTES, backlog=1024)
    except OSError as error:
        _say(json.dumps({"error": f"cannot listen on {given.listen[0]}:{given.listen[1]}: {error.strerror or error}"}))
        return 3
    commands = _Commands(proxy, server, lease_s=DELAY_LEASE_S if given.control else float("inf"))
    control: asyncio.Server | None = None
    if given.control:
        with short_path(Path(given.control)) as path:
            mask = os.umask(0o177)
            try:
                control = await asyncio.start_unix_server(commands.converse, path)
            finally:
                os.umask(mask)
        loop.call_later(UNCLAIMED_MAX_S, commands.end_unclaimed)
    _say(json.dumps({"port": server.sockets[0].getsockname()[1], "pid": os.getpid()}))
    reading = None if given.control else asyncio.ensure_future(commands.from_stdin())
    await proxy.ended.wait()
    server.close()
    await proxy.close()
    if control:
        control.close()
        Path(given.control).unlink(missing_ok=True)
    if reading:
        reading.cancel()
    if given.nft_table and (nft := shutil.which("nft")):
        subprocess.run([nft, "delete", "table", "ip", given.nft_table], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=10, check=False)
    return 0


class _Commands:
    """What it is told, and its answers."""

    def __init__(self, proxy: Proxy, server: asyncio.Server, lease_s: float) -> None:
        self._proxy, self._server, self._lease_s = proxy, server, lease_s
        self._claimed = False

    async def from_stdin(self) -> None:
        """Obey stdin until it closes."""
        reader = asyncio.StreamReader(limit=1024)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        try:
            while line := await reader.readline():
                if answer := self._obey(line):
                    _say(answer)
        except ValueError:
            pass  # a line without end
        finally:
            self._proxy.ended.set()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Obey one client of the control socket."""
        try:
            while line := await reader.readline():
                writer.write((self._obey(line) or "{}").encode() + b"\n")
                await writer.drain()
        except (ValueError, OSError):
            pass  # a line without end, or a client that is gone
        finally:
            writer.close()

    def end_unclaimed(self) -> None:
        """Whoever started it died before it was used."""
        if not self._claimed and not self._proxy.counters.connections:
            self._proxy.ended.set()

    def _obey(self, line: bytes) -> str:
        self._claimed = True
        words = line.decode(errors="replace").split()
        if words in (["quit"], ["q"]):
            self._proxy.ended.set()
            return ""
        if words == ["drain"]:
            self._server.close()
            report = self._proxy.report()
            self._proxy.drain()
            return report
        if words[:1] == ["delay"] and len(words) == 2:
            try:
                self._proxy.set_delay(_delay(words[1]), self._lease_s)
            except argparse.ArgumentTypeError as error:
                return json.dumps({"error": str(error)})
        elif words != ["counters"]:
            return json.dumps({"error": "commands are: counters, delay MILLISECONDS, drain, quit"})
        return self._proxy.report()


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Another name for the path of a socket, which may have 107 characters at most."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}" if Path(f"/proc/self/fd/{folder}").exists() else str(path)
    finally:
        os.close(folder)


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
    parser = argparse.ArgumentParser(prog="perfloop.wire.tap", description="A TCP proxy that counts, times and groups round trips, and can delay them.")
    parser.add_argument("--listen", type=_address, default=("127.0.0.1", 0))
    parser.add_argument("--to", type=_address, required=True)
    parser.add_argument("--protocol", choices=PROTOCOLS, default="tcp")
    parser.add_argument("--delay-ms", type=_delay, default=0.0)
    parser.add_argument("--control", default="", help="a Unix socket for commands; it then outlives its parent")
    parser.add_argument("--nft-table", default="", help="the table (ip) of its redirect, deleted when it ends (root)")
    parser.add_argument("--mark", type=int, default=0, help="a mark of its own connections, by which a redirect spares them (root)")
    return asyncio.run(run(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
