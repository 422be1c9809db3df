"""A server whose limit is known: it answers in turn, one each ``1/limit`` seconds (``--kind paced``) or after exponential times of that mean (``--kind random``).

Slots are kept as absolute times, so that late timers of the machine do not add up: over any second it answers exactly its limit.

python -m bench.load_rows.limit_server --limit 500
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"


class Limited(asyncio.Protocol):
    """One connection; all share the queue of slots."""

    def __init__(self, queue: Queue) -> None:
        self._queue, self._data = queue, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while b"\r\n\r\n" in self._data:
            _, _, self._data = self._data.partition(b"\r\n\r\n")
            asyncio.get_running_loop().call_at(self._queue.next_s(), self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(ANSWER)


class Queue:
    """The times at which answers may leave."""

    def __init__(self, limit_per_s: float, kind: str, floor_s: float) -> None:
        self._limit, self._kind, self._floor_s, self._last_s = limit_per_s, kind, floor_s, 0.0
        self._draw = random.Random(1).expovariate

    def next_s(self) -> float:
        took_s = 1 / self._limit if self._kind == "paced" else self._draw(self._limit)
        self._last_s = max(self._last_s, time.monotonic()) + took_s
        return self._last_s + self._floor_s


async def serve(limit_per_s: float, kind: str, floor_s: float) -> None:
    queue = Queue(limit_per_s, kind, floor_s)
    server = await asyncio.get_running_loop().create_server(lambda: Limited(queue), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # ends with its parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, required=True)
    parser.add_argument("--kind", choices=("paced", "random"), default="paced")
    parser.add_argument("--floor-s", type=float, default=0.0)
    chosen = parser.parse_args()
    import uvloop

    uvloop.run(serve(chosen.limit, chosen.kind, chosen.floor_s))
    return 0


if __name__ == "__main__":
    sys.exit(main())
