"""A server whose delays are known: path /k is answered after the k-th delay of a fixed list, and from the N-th request on nothing is answered for a second.

Delays count from the kernel's time stamp of the request. What the server was late itself (it sleeps until something is due, and a thousand answers that
are due at the end of the stall take their time), it writes into its report, a file of JSON, when it is ended: ``[k, seconds late]`` for each request in
the order in which they came. It does not spin, although that would be more exact: from who fills its core the kernel, or others, take it away. It ends
with its parent as well.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path

DELAYS = 500
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SO_TIMESTAMPNS = 35


def delays_s() -> list[float]:
    """A fast half and a slow tail, as services have: log-normal around 4 ms, one in fifty slower by 40 ms."""
    draw = random.Random(11)
    return [draw.lognormvariate(-5.5, 0.5) + (0.04 if k % 50 == 0 else 0.0) for k in range(DELAYS)]


def main() -> None:
    port, stall_at, stall_s, report = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])
    delays, parent = delays_s(), os.getppid()
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    peers: dict[int, socket.socket] = {}
    due: list[tuple[float, int, int]] = []
    late: list[tuple[int, float]] = []
    quiet_from_s = quiet_until_s = 0.0
    while not ended and os.getppid() == parent:
        left_s = max(due[0][0], quiet_until_s) - time.monotonic() if due else 1.0
        select.select([poll], [], [], max(0.0, left_s))  # exact to microseconds, where epoll's own time is in milliseconds
        for fd, _ in poll.poll(0):
            if fd == listener.fileno():
                made, _ = listener.accept()
                made.setblocking(False)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
                peers[made.fileno()] = made
                poll.register(made.fileno(), select.EPOLLIN)
                continue
            data, notes, _, _ = peers[fd].recvmsg(65536, socket.CMSG_SPACE(16))
            if not data:
                poll.unregister(fd)
                peers.pop(fd).close()
                continue
            came_s = time.monotonic() - age_s(notes)
            k = int(data.split(b" ", 2)[1][1:])
            late.append((k, 0.0))
            if len(late) == stall_at:
                quiet_from_s, quiet_until_s = came_s, came_s + stall_s
            heapq.heappush(due, (came_s + delays[k], fd, len(late) - 1))
        now_s = time.monotonic()
        if now_s >= quiet_until_s:
            while due and due[0][0] <= now_s:
                ready_s, fd, number = heapq.heappop(due)
                if quiet_from_s <= ready_s < quiet_until_s:
                    ready_s = quiet_until_s
                if fd in peers:
                    late[number] = (late[number][0], time.monotonic() - ready_s)
                    peers[fd].send(ANSWER)
    report.write_text(json.dumps(late))


def age_s(notes: list[tuple[int, int, bytes]]) -> float:
    """How long ago the kernel got it."""
    for _, kind, data in notes:
        if kind == SO_TIMESTAMPNS:
            seconds, ns = struct.unpack("@ll", data)
            return max(0.0, (time.time_ns() - seconds * 1_000_000_000 - ns) * 1e-9)
    return 0.0


if __name__ == "__main__":
    main()
