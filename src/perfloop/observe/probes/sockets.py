"""Round trips of the service to each of its peers, counted by the kernel: any language, no privileges beyond seeing the service's descriptors.

What it cannot see: the traffic of a connection that opens and closes between two samples (that there was one, TIME_WAIT tells), Unix sockets (the kernel keeps no such counters for them), and other
network namespaces. A request that needs several writes counts as several round trips.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from perfloop.host.processes import addresses_of
from perfloop.host.sockdiag import ESTABLISHED, LISTEN, TIME_WAIT, SocketDiag, TcpSocket, socket_inodes
from perfloop.model.evidence import PeerTraffic, SocketsObservation, Unavailable
from perfloop.model.signals import ListenQueue
from perfloop.model.target import PeerKind, Target
from perfloop.observe.base import Access, Observation

ID = "sockets"
NEEDS = "Linux netlink SOCK_DIAG, and the right to list the service's descriptors (same user, or root)"
COST = "2 to 4 % of a core at 25 looks a second, mostly the kernel walking its socket table; nothing in the service"

_SYN_SENT, _CLOSE_WAIT = 2, 8
_STATES = (ESTABLISHED, _SYN_SENT, _CLOSE_WAIT)
CONNECTIONS_MAX = 50_000
#: The kernel tells the age of the last send and receive in its ticks: 4 ms at 250 Hz, 10 ms at most.
TICK_MS = 10
ANSWER_SLOW_US = 8_000  # two ticks at 250 Hz


@dataclass
class _Connection:
    """One connection to a peer: its counters when the window began (0 where it is younger) and when it was last seen."""

    first: TcpSocket | None
    last: TcpSocket
    waiting_s: float = 0.0
    tie_s: float = 0.0  # time in which send and receive fell into one tick, not yet attributed

    def look(self, now: TcpSocket, elapsed_s: float) -> None:
        """Take one more sample, ``elapsed_s`` after the one before.

        Sent later than received: it waits. Received later: it does not. Within one tick the ages tie. Answers that take longer than a tick cannot tie
        with their own request, so that it waits; how long they take the smoothed round-trip time tells, because acknowledgements ride on answers (and an
        answer takes a round trip at least). Else the next change tells: when bytes then came in and nothing went out, it had been waiting; where both
        moved, nobody can know, and half of a fresh tie counts.
        """
        received, sent = now.bytes_received > self.last.bytes_received, now.data_segs_out > self.last.data_segs_out
        if self.tie_s and (received or sent):
            if received and not sent:
                self.waiting_s += self.tie_s
            elif received:
                self.waiting_s += self.tie_s / 2 if self.last.last_data_sent_ms <= TICK_MS else 0.0
            self.tie_s = 0.0
        tie = now.last_data_sent_ms == now.last_data_recv_ms
        if now.data_segs_out and (now.last_data_sent_ms < now.last_data_recv_ms or (tie and now.rtt_us > ANSWER_SLOW_US)):
            self.waiting_s += elapsed_s
        elif now.data_segs_out and tie:
            self.tie_s += elapsed_s
        self.last = now

    def delta(self, name: str) -> int:
        """How far a counter went in the window."""
        return max(0, int(getattr(self.last, name)) - (int(getattr(self.first, name)) if self.first else 0))

    @property
    def bytes_sent(self) -> int:
        """Bytes acknowledged in the window, without the one that a connection's opening counts for."""
        return max(0, self.delta("bytes_acked") - (self.first is None))


@dataclass
class _PeerSum:
    connections: int = 0
    round_trips: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    waiting_s: float = 0.0
    opened: int = 0
    rtt_ms: list[float] = field(default_factory=list)


class SocketsSession:
    """Samples the socket table; a connection that disappears keeps its last seen counters."""

    def __init__(self, target: Target, access: Access) -> None:
        self.interval_s = 1.0 / access.sockets_rate_hz
        self._target, self._pids = target, access.pids
        self._diag = SocketDiag()
        self._ours: set[int] = set()
        self._foreign: set[int] = set()
        self._connections: dict[tuple[int, int], _Connection] = {}
        self._samples = 0
        self._began_s = self._looked_s = time.monotonic()
        self._listening: set[int] = set()
        self._queues: dict[int, tuple[int, int]] = {}  # port → longest accept queue, its bound
        self._listeners: list[TcpSocket] = []
        self._remains: set[tuple[str, int, str, int]] = set()
        self._refresh()

    def begin(self) -> None:
        """Remember the counters of every connection that is open now."""
        self._refresh()
        self._connections = {_key(entry): _Connection(entry, entry) for entry in self._table()}
        self._remains = set(self._time_wait())
        self._queues.clear()
        self._began_s = self._looked_s = time.monotonic()

    def sample(self) -> None:
        """Read all counters once."""
        now_s = time.monotonic()
        elapsed_s, self._looked_s = now_s - self._looked_s, now_s
        for entry in self._table():
            known = self._connections.get(_key(entry))
            if known is not None:
                known.look(entry, elapsed_s)
            elif len(self._connections) < CONNECTIONS_MAX:
                self._connections[_key(entry)] = _Connection(None, entry)
        self._samples += 1
        for entry in self._listeners:
            longest, _ = self._queues.get(entry.local_port, (0, 0))
            self._queues[entry.local_port] = max(longest, entry.queue), entry.queue_bound

    def finish(self) -> Sequence[Observation]:
        """Sums by remote address."""
        self.sample()
        window_s = self._looked_s - self._began_s
        sums: dict[tuple[str, int], _PeerSum] = {}
        for connection in self._connections.values():
            peer = sums.setdefault((connection.last.remote_host, connection.last.remote_port), _PeerSum())
            peer.connections += 1
            peer.opened += connection.first is None
            peer.round_trips += connection.delta("data_segs_out")
            peer.bytes_sent += connection.bytes_sent
            peer.bytes_received += connection.delta("bytes_received")
            peer.waiting_s += connection.waiting_s
            if connection.last.rtt_us:
                peer.rtt_ms.append(connection.last.rtt_us / 1000)
        remains = self._time_wait()
        queues = tuple(ListenQueue(port=port, longest=longest, bound=bound) for port, (longest, bound) in sorted(self._queues.items()))
        return (SocketsObservation(window_s=window_s, samples=self._samples, peers=tuple(self._traffic(sums, remains)), listening=queues),)

    def close(self) -> None:
        """Close the netlink socket."""
        self._diag.close()

    def _traffic(self, sums: dict[tuple[str, int], _PeerSum], remains: dict[tuple[str, int, str, int], tuple[str, int]]) -> list[PeerTraffic]:
        seen = {(c.last.local_host, c.last.local_port, c.last.remote_host, c.last.remote_port) for c in self._connections.values()}
        kinds = {(address, peer.port): peer for peer in self._target.peers for address in (peer.host, *addresses_of(peer.host))}
        found = []
        for peer_of in remains.values():
            if peer_of in kinds:  # all of its connections were too short to be sampled
                sums.setdefault(peer_of, _PeerSum())
        for (host, port), peer in sorted(sums.items(), key=lambda item: -item[1].round_trips):
            known = kinds.get((host, port))
            short = sum(1 for quad, of in remains.items() if of == (host, port) and quad not in self._remains and quad not in seen)
            found.append(
                PeerTraffic(
                    host=known.host if known else host,
                    port=port,
                    kind=known.kind if known else PeerKind.UNKNOWN,
                    connections=peer.connections,
                    round_trips=peer.round_trips,
                    bytes_sent=peer.bytes_sent,
                    bytes_received=peer.bytes_received,
                    waiting_s=min(peer.waiting_s, (self._looked_s - self._began_s) * peer.connections),
                    rtt_ms=sum(peer.rtt_ms) / len(peer.rtt_ms) if peer.rtt_ms else None,
                    opened=peer.opened + short,
                    time_wait=sum(1 for of in remains.values() if of == (host, port)),
                )
            )
        return found

    def _time_wait(self) -> dict[tuple[str, int, str, int], tuple[str, int]]:
        """What is left of closed connections, with the peer of each: ours where we closed first, the peer's own where it did and is on this machine.

        Nobody holds such a socket, so those of other processes to the same address are among them.
        """
        peers = {(address, peer.port) for peer in self._target.peers for address in (peer.host, *addresses_of(peer.host))}
        peers |= {(connection.last.remote_host, connection.last.remote_port) for connection in self._connections.values()}
        found = {}
        for entry in self._diag.tcp((TIME_WAIT,)):
            ours, theirs = (entry.local_host, entry.local_port), (entry.remote_host, entry.remote_port)
            if theirs in peers:
                found[*ours, *theirs] = theirs
            elif ours in peers:
                found[*theirs, *ours] = ours
        return found

    def _table(self) -> list[TcpSocket]:
        """The service's client sockets. Its descriptors are listed again only when a socket appears that nobody was asked about yet."""
        table = self._diag.tcp((*_STATES, LISTEN))
        self._listeners = [entry for entry in table if entry.state == LISTEN and entry.inode in self._ours]
        table = [entry for entry in table if entry.state != LISTEN]
        inodes = {entry.inode for entry in table if entry.inode}
        if inodes - self._ours - self._foreign:
            self._refresh()
            self._foreign = inodes - self._ours  # forgets the inodes of closed sockets, so both sets stay small
        return [entry for entry in table if entry.inode in self._ours and entry.local_port not in self._listening]

    def _refresh(self) -> None:
        self._ours = set().union(*(socket_inodes(pid) for pid in self._pids))
        # An accepted connection has the listening socket's port: there the service is the server, not a client.
        self._listening = {entry.local_port for entry in self._diag.tcp((LISTEN,)) if entry.inode in self._ours} | {self._target.port}


def start(target: Target, access: Access) -> SocketsSession | Unavailable:
    """A session over the TCP connections of the service's processes."""
    if not access.pids:
        return Unavailable(
            probe=ID,
            reason="no process of the service is known, so none of its connections",
            fix="run perfloop on the service's machine, as its user or as root",
        )
    if not any(socket_inodes(pid) for pid in access.pids):
        return Unavailable(
            probe=ID,
            reason="the descriptors of the service's processes cannot be listed, or they hold no socket",
            fix="run perfloop as the service's user or as root",
        )
    return SocketsSession(target, access)


def _key(entry: TcpSocket) -> tuple[int, int]:
    return entry.inode, entry.local_port
