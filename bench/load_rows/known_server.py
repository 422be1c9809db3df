"""A server whose delays are known: path /k is answered after the k-th delay of a fixed list, and from the N-th request on nothing is answered for a second.

It spins on its core, so that it is exact to some tens of microseconds. Prints nothing; ends when its parent does.
"""

from __future__ import annotations

import heapq
import os
import random
import select
import socket
import sys
import time

DELAYS = 500
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def delays_s() -> list[float]:
    """A fast half and a slow tail, as services have: log-normal around 4 ms, one in fifty slower by 40 ms."""
    draw = random.Random(11)
    return [draw.lognormvariate(-5.5, 0.5) + (0.04 if k % 50 == 0 else 0.0) for k in range(DELAYS)]


def main() -> None:
    port, stall_at, stall_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    delays, parent = delays_s(), os.getppid()
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    peers: dict[int, socket.socket] = {}
    due: list[tuple[float, int]] = []
    seen, quiet_until_s = 0, 0.0
    while os.getppid() == parent:
        for fd, _ in poll.poll(0):
            if fd == listener.fileno():
                made, _ = listener.accept()
                made.setblocking(False)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peers[made.fileno()] = made
                poll.register(made.fileno(), select.EPOLLIN)
                continue
            data = peers[fd].recv(65536)
            if not data:
                poll.unregister(fd)
                peers.pop(fd).close()
                continue
            now_s = time.monotonic()
            seen += 1
            if seen == stall_at:
                quiet_until_s = now_s + stall_s
            heapq.heappush(due, (now_s + delays[int(data.split(b" ", 2)[1][1:])], fd))
        now_s = time.monotonic()
        if now_s >= quiet_until_s:
            while due and due[0][0] <= now_s:
                _, fd = heapq.heappop(due)
                if fd in peers:
                    peers[fd].send(ANSWER)


if __name__ == "__main__":
    main()
