"""TCP and Unix sockets of this machine with the kernel's own counters, by netlink ``SOCK_DIAG``: any language, no privileges, no ``ss`` program.

Layouts: linux/inet_diag.h, linux/unix_diag.h and struct tcp_info of linux/tcp.h (fields are only ever appended; an older kernel's shorter one reads as 0).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType

from perfloop.errors import CannotMeasure

ESTABLISHED, TIME_WAIT, LISTEN = 1, 6, 10
DEFAULT_STATES = (ESTABLISHED,)
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_INET_DIAG_INFO = 2
_UNIX_DIAG_NAME, _UNIX_DIAG_PEER = 0, 2
_UDIAG_SHOW_NAME_PEER = 0x1 | 0x4
_HEADER = struct.Struct("=IHHII")
_MESSAGE = struct.Struct("=BBBB2s2s16s16sI8sIIIII")  # inet_diag_msg
_INODE, _INODE_AT = struct.Struct("=I"), 68  # the last field of it
_ATTRIBUTE = struct.Struct("=HH")
_MAPPED_V4 = bytes(10) + b"\xff\xff"
_TCP_INFO_BYTES = 160
_TCP_INFO = struct.Struct("=44xI4xI12xI48xQQ8x4x4xII")  # 44 last_data_sent, 52 last_data_recv, 68 rtt, 120 acked, 128 received, 152 segs in, 156 segs out
_SOCKETS_MAX = 200_000
_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class TcpSocket:
    """One TCP socket. Counters are since it was opened; ``last_data_*_ms`` are milliseconds ago, in steps of the kernel's tick (1 to 10 ms).

    ``state`` is 1 for established, 6 for TIME_WAIT (then nobody holds it), 10 for listening. A socket that listens on IPv6 for IPv4 too has host ``::``; mapped IPv4 addresses are told as IPv4.
    """

    local_host: str
    local_port: int
    remote_host: str
    remote_port: int
    inode: int
    state: int
    data_segs_out: int = 0
    data_segs_in: int = 0
    bytes_acked: int = 0
    bytes_received: int = 0
    last_data_sent_ms: int = 0
    last_data_recv_ms: int = 0
    rtt_us: int = 0
    queue: int = 0  # of a listening socket: connections that wait to be accepted
    queue_bound: int = 0  # and how many may

    @property
    def waiting(self) -> bool:
        """True where it sent last and has received nothing since, as far as the tick can tell: it waits for an answer."""
        return self.data_segs_out > 0 and self.last_data_sent_ms < self.last_data_recv_ms


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """One Unix stream socket: its inode, the path it is bound to (empty for a client), and the inode of its other end (0 where not connected)."""

    inode: int
    path: str
    peer_inode: int
    state: int


class SocketDiag:
    """An open netlink socket, to dump the socket table many times a second. Use as a context manager."""

    def __init__(self) -> None:
        if not hasattr(socket, "AF_NETLINK"):
            raise CannotMeasure("cannot read the sockets' counters", "this system has no netlink", "run perfloop on Linux to count round trips")
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
        except OSError as error:
            raise CannotMeasure("cannot read the sockets' counters", f"netlink: {error.strerror}", "allow AF_NETLINK sockets in this container") from None
        self._socket.settimeout(_TIMEOUT_S)
        self._sequence = 0

    def __enter__(self) -> SocketDiag:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the netlink socket."""
        self._socket.close()

    def tcp(self, states: Iterable[int] = DEFAULT_STATES, inodes: set[int] | None = None) -> list[TcpSocket]:
        """All TCP sockets of our network namespace in the given states, IPv4 and IPv6; only those of ``inodes`` where given."""
        mask = sum(1 << state for state in states)
        found: list[TcpSocket] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            request = struct.pack("=BBBBI48s", family, socket.IPPROTO_TCP, 1 << (_INET_DIAG_INFO - 1), 0, mask, bytes(48))
            found += [_tcp_socket(payload) for payload in self._dump(request) if inodes is None or _INODE.unpack_from(payload, _INODE_AT)[0] in inodes]
        return found

    def unix(self) -> list[UnixSocket]:
        """All Unix sockets of our network namespace that are connected or listening, with the other end of each."""
        request = struct.pack("=BBHIII8s", socket.AF_UNIX, 0, 0, (1 << ESTABLISHED) | (1 << LISTEN), 0, _UDIAG_SHOW_NAME_PEER, bytes(8))
        return [_unix_socket(payload) for payload in self._dump(request)]

    def _dump(self, request: bytes) -> Iterator[bytes]:
        self._sequence = (self._sequence + 1) & 0x7FFFFFFF
        count = 0
        try:
            self._socket.send(_HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, self._sequence, 0) + request)
            while True:
                data = self._socket.recv(1 << 18)
                at = 0
                while at + _HEADER.size <= len(data):
                    length, kind, _flags, sequence, _pid = _HEADER.unpack_from(data, at)
                    payload = data[at + _HEADER.size : at + length]
                    at += (length + 3) & ~3
                    if sequence != self._sequence:
                        continue  # the rest of an answer that nobody read to its end
                    if kind == _NLMSG_DONE:
                        return
                    if kind == _NLMSG_ERROR:
                        code = -struct.unpack_from("=i", payload)[0]
                        if code == 2:  # ENOENT: this kernel was built without the family's diag module, so no such sockets are told
                            return
                        raise OSError(code, os.strerror(code))
                    count += 1
                    if count > _SOCKETS_MAX:
                        raise CannotMeasure(
                            "cannot read the sockets' counters", f"more than {_SOCKETS_MAX} sockets are open", "close connections that nobody uses"
                        )
                    yield payload
        except OSError as error:
            raise CannotMeasure(
                "cannot read the sockets' counters", f"netlink: {error.strerror or 'no answer'}", "allow AF_NETLINK sockets (SOCK_DIAG) in this container"
            ) from None


def _attributes(payload: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + 4 <= len(payload):
        length, kind = _ATTRIBUTE.unpack_from(payload, at)
        if length < 4:
            return
        yield kind, payload[at + 4 : at + length]
        at += (length + 3) & ~3


def _address(family: int, raw: bytes) -> str:
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, raw[:4])
    if raw.startswith(_MAPPED_V4):
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    return socket.inet_ntop(socket.AF_INET6, raw)


def _tcp_socket(payload: bytes) -> TcpSocket:
    family, state, _timer, _retrans, sport, dport, source, target, _if, _cookie, _expires, received_queue, sent_queue, _uid, inode = _MESSAGE.unpack_from(
        payload
    )
    sent_ms = recv_ms = rtt_us = acked = received = segs_in = segs_out = 0
    if state != LISTEN:
        for kind, value in _attributes(payload, _MESSAGE.size):
            if kind == _INET_DIAG_INFO:
                sent_ms, recv_ms, rtt_us, acked, received, segs_in, segs_out = _TCP_INFO.unpack_from(value.ljust(_TCP_INFO_BYTES, b"\0"))
    return TcpSocket(
        local_host=_address(family, source),
        local_port=int.from_bytes(sport, "big"),
        remote_host=_address(family, target),
        remote_port=int.from_bytes(dport, "big"),
        inode=inode,
        state=state,
        data_segs_out=segs_out,
        data_segs_in=segs_in,
        bytes_acked=acked,
        bytes_received=received,
        last_data_sent_ms=sent_ms,
        last_data_recv_ms=recv_ms,
        rtt_us=rtt_us,
        queue=received_queue if state == LISTEN else 0,
        queue_bound=sent_queue if state == LISTEN else 0,
    )


def _unix_socket(payload: bytes) -> UnixSocket:
    _family, _kind, state, _pad, inode = struct.unpack_from("=BBBBI", payload)
    path, peer = "", 0
    for kind, value in _attributes(payload, 16):
        if kind == _UNIX_DIAG_NAME:
            path = value.replace(b"\0", b"@", 1).decode(errors="replace") if value.startswith(b"\0") else value.rstrip(b"\0").decode(errors="replace")
        elif kind == _UNIX_DIAG_PEER:
            peer = struct.unpack_from("=I", value)[0]
    return UnixSocket(inode, path, peer, state)


def tcp_sockets(states: Iterable[int] = DEFAULT_STATES) -> list[TcpSocket]:
    """All TCP sockets in the given states, once; for many looks keep a :class:`SocketDiag` open."""
    with SocketDiag() as diag:
        return diag.tcp(states)


def socket_inodes(pid: int) -> set[int]:
    """Inodes of the sockets that a process holds; empty where it is gone or belongs to another user."""
    folder = f"/proc/{pid}/fd"
    found: set[int] = set()
    try:
        names = os.listdir(folder)  # noqa: PTH208 -- read many times a second
    except OSError:
        return found
    for name in names:
        try:
            target = os.readlink(f"{folder}/{name}")  # noqa: PTH115
        except OSError:
            continue  # closed since
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found


def sockets_of(pids: Iterable[int], diag: SocketDiag | None = None, states: Iterable[int] = DEFAULT_STATES) -> list[TcpSocket]:
    """TCP sockets that any of the processes holds, in the given states, each once (workers may share one)."""
    inodes: set[int] = set().union(*map(socket_inodes, pids))
    if not inodes:
        return []
    if diag is not None:
        return diag.tcp(states, inodes)
    with SocketDiag() as own:
        return own.tcp(states, inodes)


def unix_peers_of(pids: Iterable[int], diag: SocketDiag | None = None) -> dict[str, int]:
    """Paths of Unix sockets that the processes are connected to as clients, with the number of connections to each."""
    inodes: set[int] = set().union(*map(socket_inodes, pids))
    if not inodes:
        return {}
    if diag is None:
        with SocketDiag() as own:
            table = own.unix()
    else:
        table = diag.unix()
    paths = {entry.inode: entry.path for entry in table if entry.path}
    counts: dict[str, int] = {}
    for entry in table:
        path = paths.get(entry.peer_inode, "")
        if entry.inode in inodes and not entry.path and path:
            counts[path] = counts.get(path, 0) + 1
    return counts
