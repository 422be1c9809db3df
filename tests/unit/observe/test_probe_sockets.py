"""Round trips to a real peer, counted by the kernel."""

from __future__ import annotations

from perfloop.model.target import PeerKind
from perfloop.observe.base import Access
from perfloop.observe.runner import Observer


def test_round_trips_to_the_peer_are_counted_and_the_accepted_side_is_not(service, peer_port):
    service.get("/peer")
    observer = Observer(service.target, Access(pids=(service.pid,)), ("sockets",)).start()
    assert observer.wait_ready()
    service.get(*["/peer"] * 6, "/sleep")
    parts = observer.stop()
    assert parts.sockets is not None
    (peer,) = parts.sockets.peers
    assert (peer.host, peer.port, peer.kind) == ("127.0.0.1", peer_port, PeerKind.REDIS)
    assert peer.round_trips == 30
    assert peer.bytes_sent == 120
    assert peer.bytes_received == 120
    # 30 answers of 20 ms each, on one connection
    assert peer.waiting_s is not None
    assert 0.3 <= peer.waiting_s <= 3


def test_requests_before_the_window_are_not_counted(service):
    service.get(*["/peer"] * 3)
    observer = Observer(service.target, Access(pids=(service.pid,)), ("sockets",)).start()
    assert observer.wait_ready()
    service.get("/none")
    parts = observer.stop()
    assert parts.sockets is not None
    assert sum(peer.round_trips for peer in parts.sockets.peers) == 0


def test_a_connection_that_closes_in_the_window_keeps_its_count(service):
    observer = Observer(service.target, Access(pids=(service.pid,)), ("sockets",)).start()
    assert observer.wait_ready()
    # Each its own thread of the service, so its own connection to the peer, closed with the thread. It sleeps before it closes: what happens
    # after the last sample of a connection that closes is not seen.
    for _ in range(3):
        service.get("/peer", "/sleep")
    parts = observer.stop()
    assert parts.sockets is not None
    (peer,) = parts.sockets.peers
    assert peer.connections == 3
    assert peer.round_trips == 15
    assert parts.sockets.samples > 3
