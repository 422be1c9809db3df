"""Counters of real loopback connections."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from perfloop.host import sockdiag

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="netlink is Linux")


def connected(family: int, host: str) -> tuple[socket.socket, socket.socket, socket.socket]:
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind((host, 0))
    listener.listen()
    client = socket.socket(family, socket.SOCK_STREAM)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.connect(listener.getsockname()[:2])
    server, _ = listener.accept()
    return listener, client, server


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_one_segment_sends_are_counted(family: int, host: str) -> None:
    try:
        listener, client, server = connected(family, host)
    except OSError:
        pytest.skip("no IPv6 here")
    with listener, client, server:
        for _ in range(7):
            client.sendall(b"x" * 100)
            assert len(server.recv(1000)) == 100
            server.sendall(b"y" * 50)
            assert len(client.recv(1000)) == 50
        found = {entry.local_port: entry for entry in sockdiag.sockets_of([os.getpid()])}
        mine, theirs = found[client.getsockname()[1]], found[server.getsockname()[1]]
        assert mine.data_segs_out == 7
        assert mine.data_segs_in == 7
        assert mine.bytes_received == 350
        assert theirs.bytes_received == 700
        assert mine.bytes_acked in (701, 601)  # the SYN counts one; the last segment's ack may still be on its way
        assert mine.rtt_us > 0
        assert (mine.local_host, mine.remote_host, mine.remote_port) == (host, host, server.getsockname()[1])
        assert mine.state == sockdiag.ESTABLISHED
        assert mine.inode == os.fstat(client.fileno()).st_ino


def test_who_sent_last_waits() -> None:
    import time

    listener, client, server = connected(socket.AF_INET, "127.0.0.1")
    with listener, client, server, sockdiag.SocketDiag() as diag:
        client.sendall(b"a")
        server.recv(10)
        server.sendall(b"b")
        client.recv(10)
        time.sleep(0.05)
        client.sendall(b"question")
        server.recv(10)
        found = {entry.local_port: entry for entry in sockdiag.sockets_of([os.getpid()], diag)}
        assert found[client.getsockname()[1]].waiting
        assert not found[server.getsockname()[1]].waiting


def test_an_open_diag_answers_again_and_again() -> None:
    listener, client, server = connected(socket.AF_INET, "127.0.0.1")
    with listener, client, server, sockdiag.SocketDiag() as diag:
        for count in range(1, 20):
            client.sendall(b"x")
            server.recv(1)
            found = {entry.local_port: entry for entry in diag.tcp()}
            assert found[client.getsockname()[1]].data_segs_out == count


def test_listening_and_mapped_addresses() -> None:
    try:
        listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    except (OSError, ValueError):
        pytest.skip("no dual stack here")
    with listener, socket.create_connection(("127.0.0.1", listener.getsockname()[1])) as client:
        server, _ = listener.accept()
        with server:
            listening = [entry for entry in sockdiag.tcp_sockets((sockdiag.LISTEN,)) if entry.local_port == listener.getsockname()[1]]
            assert [entry.local_host for entry in listening] == ["::"]
            peer = next(
                entry for entry in sockdiag.tcp_sockets() if entry.remote_port == client.getsockname()[1] and entry.local_port == listener.getsockname()[1]
            )
            assert peer.remote_host == "127.0.0.1"


def test_unix_peers() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as client,
        socket.socket(socket.AF_UNIX) as other,
    ):
        path = str(Path(folder) / "s")
        listener.bind(path)
        listener.listen()
        client.connect(path)
        other.connect(path)
        accepted = [listener.accept()[0] for _ in range(2)]
        assert sockdiag.unix_peers_of([os.getpid()]) == {path: 2}
        for connection in accepted:
            connection.close()


def test_no_such_process_has_no_sockets() -> None:
    assert sockdiag.socket_inodes(2**22 + 1) == set()
    assert sockdiag.sockets_of([2**22 + 1]) == []
    assert sockdiag.unix_peers_of([]) == {}
