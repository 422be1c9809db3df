"""What a service is connected to: remote addresses of its processes, told by the process that listens there, the configured DSN, or a well-known port."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from perfloop.errors import CannotMeasure
from perfloop.host import procfs, sockdiag
from perfloop.host.processes import addresses_of, holders, is_local
from perfloop.model.target import Peer, PeerKind

_PORTS = {
    5432: PeerKind.POSTGRESQL,
    6432: PeerKind.POSTGRESQL,  # pgbouncer
    3306: PeerKind.MYSQL,
    33060: PeerKind.MYSQL,
    6379: PeerKind.REDIS,
    11211: PeerKind.MEMCACHED,
    27017: PeerKind.MONGODB,
    80: PeerKind.HTTP,
    443: PeerKind.HTTP,
    8000: PeerKind.HTTP,
    8080: PeerKind.HTTP,
    8443: PeerKind.HTTP,
}
_PROCESSES = (
    ("postgres", PeerKind.POSTGRESQL),
    ("postmaster", PeerKind.POSTGRESQL),
    ("pgbouncer", PeerKind.POSTGRESQL),
    ("pgcat", PeerKind.POSTGRESQL),
    ("mysqld", PeerKind.MYSQL),
    ("mariadbd", PeerKind.MYSQL),
    ("redis-server", PeerKind.REDIS),
    ("valkey-server", PeerKind.REDIS),
    ("memcached", PeerKind.MEMCACHED),
    ("mongod", PeerKind.MONGODB),
    ("mongos", PeerKind.MONGODB),
    ("nginx", PeerKind.HTTP),
    ("apache2", PeerKind.HTTP),
    ("httpd", PeerKind.HTTP),
    ("caddy", PeerKind.HTTP),
    ("haproxy", PeerKind.HTTP),
    ("envoy", PeerKind.HTTP),
    ("uvicorn", PeerKind.HTTP),
    ("gunicorn", PeerKind.HTTP),
)
_SOCKET_FILES = (
    (".s.PGSQL.", PeerKind.POSTGRESQL),
    ("mysql", PeerKind.MYSQL),
    ("mariadb", PeerKind.MYSQL),
    ("redis", PeerKind.REDIS),
    ("memcached", PeerKind.MEMCACHED),
    ("mongodb-", PeerKind.MONGODB),
)
PEERS_MAX = 200


def peers_of(pids: Iterable[int], configured: tuple[str, int] | None = None) -> tuple[Peer, ...]:
    """Peers of the processes, most connections first. ``configured`` is host and port of the configured PostgreSQL (port 0: a Unix socket's folder).

    It is told even where no connection is open yet, as a pool may be lazy. Connections that came in to the processes' own listening ports are left out.
    """
    pids = tuple(pids)
    if not pids:
        return ()
    try:
        with sockdiag.SocketDiag() as diag:
            listening = diag.tcp((sockdiag.LISTEN,))
            mine = sockdiag.sockets_of(pids, diag)
            unix = sockdiag.unix_peers_of(pids, diag)
    except CannotMeasure:
        mine, unix, listening = [], {}, []
    inodes: set[int] = set().union(*map(sockdiag.socket_inodes, pids))
    own_ports = {entry.local_port for entry in listening if entry.inode in inodes}
    counts = Counter((entry.remote_host, entry.remote_port) for entry in mine if entry.local_port not in own_ports)
    wanted = _configured_addresses(configured)
    found = [_tcp_peer(host, port, count, listening, wanted) for (host, port), count in counts.most_common(PEERS_MAX)]
    found += [_unix_peer(path, count) for path, count in sorted(unix.items()) if not path.startswith("@") and _unix_kind(path) != PeerKind.UNKNOWN]
    if configured and not any(peer.kind == PeerKind.POSTGRESQL and _is_configured(peer, wanted, configured) for peer in found):
        host, port = configured
        found.append(
            _tcp_peer(next(iter(sorted(wanted)), configured)[0], port, 0, listening, wanted) if port else Peer(kind=PeerKind.POSTGRESQL, host=host, port=0)
        )
    return tuple(found[:PEERS_MAX])


def _configured_addresses(configured: tuple[str, int] | None) -> set[tuple[str, int]]:
    if not configured or not configured[1]:
        return set()
    return {(address, configured[1]) for address in addresses_of(configured[0])}


def _is_configured(peer: Peer, wanted: set[tuple[str, int]], configured: tuple[str, int]) -> bool:
    return (peer.host, peer.port) in wanted or (peer.port == 0 and configured[1] == 0 and peer.host.startswith(configured[0]))


def _tcp_peer(host: str, port: int, count: int, listening: list[sockdiag.TcpSocket], wanted: set[tuple[str, int]]) -> Peer:
    pid, name, words = _listener(host, port, listening)
    kind = PeerKind.POSTGRESQL if (host, port) in wanted else kind_by_process(words) if words else PeerKind.UNKNOWN
    if kind == PeerKind.UNKNOWN:
        # a known program on a well-known port that belongs to another protocol was answered above; an unknown one may be anything
        kind = _PORTS.get(port, PeerKind.UNKNOWN)
    return Peer(kind=kind, host=host, port=port, connections=count, pid=pid, process_name=name)


def _listener(host: str, port: int, listening: list[sockdiag.TcpSocket]) -> tuple[int | None, str, tuple[str, ...]]:
    """The process that listens at a local address: pid, name, and the words by which its kind is told. The oldest of several (a server, not its worker)."""
    if not is_local(host):
        return None, "", ()
    pids = holders({entry.inode for entry in listening if entry.local_port == port and entry.local_host in (host, "0.0.0.0", "::")})  # noqa: S104
    for pid in pids:
        try:
            stat, argv = procfs.read_stat(pid), procfs.argv(pid)
        except CannotMeasure:
            continue
        return pid, stat.name, (stat.name, *(part.rpartition("/")[2] for part in argv[:4]))
    return None, "", ()


def kind_by_process(words: Iterable[str]) -> PeerKind:
    """What a server is, by its process's name and the first words of its command line."""
    for word in words:
        for name, kind in _PROCESSES:
            if word == name or word.startswith((f"{name}:", f"{name} ")):
                return kind
    return PeerKind.UNKNOWN


def _unix_kind(path: str) -> PeerKind:
    file = path.rpartition("/")[2]
    return next((kind for mark, kind in _SOCKET_FILES if mark in file), PeerKind.UNKNOWN)


def _unix_peer(path: str, count: int) -> Peer:
    return Peer(kind=_unix_kind(path), host=path, port=0, connections=count)
