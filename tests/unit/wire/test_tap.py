"""The tap on real sockets: what it counts, what a delay costs, and what it survives."""

from __future__ import annotations

import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from perfloop.errors import CannotMeasure
from perfloop.stats.intervals import slope_interval
from perfloop.wire.client import Tap

MESSAGE = b"x" * 100


class _Echo(socketserver.BaseRequestHandler):
    """Answers each message of 100 bytes with 100 bytes; says goodbye when the client has closed its half."""

    def handle(self) -> None:
        pending = b""
        while data := self.request.recv(65_536):
            pending += data
            while len(pending) >= 100:
                self.request.sendall(pending[:100])
                pending = pending[100:]
        self.request.sendall(b"bye")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@pytest.fixture
def echo() -> Iterator[int]:
    with _Server(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            break
        data += piece
    return data


def _talk(port: int, turns: int) -> float:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        began = time.monotonic()
        for _ in range(turns):
            connection.sendall(MESSAGE)
            assert _read(connection, 100) == MESSAGE
        return time.monotonic() - began


def test_it_counts_connections_bytes_and_round_trips(echo: int) -> None:
    with Tap("127.0.0.1", echo) as tap:
        _talk(tap.port, 3)
        _talk(tap.port, 5)
        deadline = time.monotonic() + 5
        while tap.counters().open and time.monotonic() < deadline:
            time.sleep(0.01)
        seen = tap.counters()
    assert (seen.connections, seen.open, seen.refused, seen.round_trips) == (2, 0, 0, 8)
    assert (seen.bytes_up, seen.bytes_down) == (800, 806)  # each goodbye is three bytes
    assert sorted(seen.per_connection) == [3, 5]


@pytest.mark.parametrize("turns", [1, 4])
def test_the_slope_of_latency_over_delay_is_the_number_of_round_trips(echo: int, turns: int) -> None:
    delays_ms, seconds = (0.0, 20.0, 40.0), []
    with Tap("127.0.0.1", echo) as tap:
        for delay_ms in delays_ms:
            tap.set_delay(delay_ms)
            seconds.append(min(_talk(tap.port, turns) for _ in range(3)))
    slope, _, _ = slope_interval([delay / 1000 for delay in delays_ms], seconds)
    assert slope == pytest.approx(turns, rel=0.25, abs=0.25)


def test_a_turn_in_several_segments_is_one_round_trip(echo: int) -> None:
    with Tap("127.0.0.1", echo, delay_ms=30) as tap, socket.create_connection(("127.0.0.1", tap.port), 10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(10):
            connection.sendall(b"y" * 10)
            time.sleep(0.001)
        assert _read(connection, 100) == b"y" * 100
        assert tap.counters().round_trips == 1
        assert tap.counters().live == (1,)


def test_a_half_closed_connection_still_gets_its_answer(echo: int) -> None:
    with Tap("127.0.0.1", echo, delay_ms=5) as tap, socket.create_connection(("127.0.0.1", tap.port), 10) as connection:
        connection.sendall(MESSAGE)
        connection.shutdown(socket.SHUT_WR)
        assert _read(connection, 1000) == MESSAGE + b"bye"


def test_large_messages_arrive_whole_and_in_order(echo: int) -> None:
    sent = bytes(range(250)) * 4 * 4000  # 4 MB, more than the tap buffers
    with Tap("127.0.0.1", echo, delay_ms=10) as tap, socket.create_connection(("127.0.0.1", tap.port), 10) as connection:
        writer = threading.Thread(target=connection.sendall, args=(sent,), daemon=True)
        writer.start()
        assert _read(connection, len(sent)) == sent
        writer.join()


def test_it_survives_resets_and_garbage(echo: int) -> None:
    with Tap("127.0.0.1", echo, delay_ms=20) as tap:
        for garbage in (b"\x00\xff" * 5000, b"GET / HTTP/1.1\r\n\r\n", b""):
            connection = socket.create_connection(("127.0.0.1", tap.port), 10)
            connection.sendall(garbage)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()  # a reset, with bytes still waiting for their delay
        assert _talk(tap.port, 2) > 0
        assert tap.counters().connections == 4


def test_an_upstream_that_is_down_looks_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Tap("127.0.0.1", port) as tap:
        with socket.create_connection(("127.0.0.1", tap.port), 10) as connection:
            try:
                answer = connection.recv(1)
            except ConnectionResetError:
                answer = b""
        assert answer == b""
        assert tap.counters().refused == 1


def test_commands_it_does_not_know_are_refused_and_change_nothing(echo: int) -> None:
    with Tap("127.0.0.1", echo) as tap:
        for bad in (-1.0, 1e9, float("nan")):
            with pytest.raises(CannotMeasure, match="refuses"):
                tap.set_delay(bad)
        assert tap.counters().delay_ms == 0


def test_it_ends_with_its_owner(echo: int) -> None:
    script = f"from perfloop.wire.client import Tap\nimport os\nt = Tap('127.0.0.1', {echo}).__enter__()\nprint(t.port, flush=True)\nos.kill(os.getpid(), 9)"
    owner = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=30, check=False)
    port = int(owner.stdout)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.02)
    pytest.fail("the tap outlived its owner")


def test_a_tap_that_was_killed_is_an_error_not_a_number(echo: int) -> None:
    with Tap("127.0.0.1", echo) as tap:
        assert tap._process is not None
        tap._process.kill()
        tap._process.wait()
        with pytest.raises(CannotMeasure, match="does not answer"):
            tap.counters()
