"""Answers that are read late count from when the kernel had them; nobody waits for us who would be slower by it."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from perfloop.load.engines import inbox
from perfloop.load.engines.connection import Connection
from perfloop.load.engines.inbox import Inbox
from perfloop.load.engines.timer import HOLD_S, NEVER_S, Clock
from perfloop.model.journey import Step

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
pytestmark = pytest.mark.skipif(not inbox.AVAILABLE, reason="the kernel stamps packets on Linux only")


class Pool:
    """What a connection tells its pool."""

    def __init__(self):
        self.lost_ones: list = []

    def opened(self, connection):
        pass

    def lost(self, connection):
        self.lost_ones.append(connection)


class Call:
    """What a connection tells a call."""

    keep = head = retried = idempotent = False

    def __init__(self, payload=b"GET / HTTP/1.1\r\n\r\n"):
        self.payload, self.told, self.connection = payload, [], None

    def answered(self, connection, head, size, body_at):
        self.told.append((head.status, size, connection.read_at_s))

    def failed(self, error, detail, size):
        self.told.append((error, size))


def connected(scenario, patient=True):
    """Runs ``scenario(inbox, connection, peer)`` with a connection to a blocking socket in our hands."""

    async def run():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            box, connection = Inbox(asyncio.get_running_loop(), patient), Connection(Pool(), None)
            await box.connect(connection, *listener.getsockname(), None)
            peer, _ = listener.accept()
            try:
                return await scenario(box, connection, peer)
            finally:
                box.close()
                peer.close()

    return asyncio.run(run())


def read_until(box, seen):
    """Reads until it is there: what was sent may still be on its way."""
    end_s = time.monotonic() + 20
    while not seen():
        assert time.monotonic() < end_s
        box.read()


def test_an_answer_ends_when_the_kernel_had_it_however_late_it_is_read():
    async def scenario(box, connection, peer):
        call = Call()
        connection.send(call)
        peer.recv(100)
        before_s = time.monotonic()
        peer.sendall(OK)
        after_s = time.monotonic()
        await asyncio.sleep(0.05)
        assert not call.told  # nobody has looked
        read_until(box, lambda told=call.told: told)
        ((status, size, read_at_s),) = call.told
        assert (status, size) == (200, len(OK))
        assert before_s - 1e-3 <= read_at_s <= after_s + 1e-3

    connected(scenario)


def test_a_step_of_the_wall_clock_is_no_latency():
    now_ns = time.time_ns()
    assert inbox._age_s([], now_ns, 0.5) == 0
    for stepped_ns, age_s in ((-3_600 * 10**9, 0.5), (3_600 * 10**9, 0.0), (-(10**8), 0.1)):
        stamp = (socket.SOL_SOCKET, inbox._SO_TIMESTAMPNS, inbox.Struct("@ll").pack(*divmod(now_ns + stepped_ns, 10**9)))
        assert inbox._age_s([stamp], now_ns, 0.5) == pytest.approx(age_s)


def test_large_answers_and_servers_that_wait_for_us_end_the_patience():
    async def large(box, connection, peer):
        call = Call()
        connection.send(call)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n" + b"x" * 40_000)
        read_until(box, lambda: connection.size_bytes or call.told)
        return box.patient

    async def split(box, connection, peer):
        for _ in range(inbox.SPLITS_MAX + 1):
            assert box.patient
            call = Call()
            connection.send(call)
            peer.sendall(OK[:30])
            read_until(box, lambda: connection.size_bytes == 30)
            peer.sendall(OK[30:])
            read_until(box, lambda told=call.told: told)
            assert [told[:2] for told in call.told] == [(200, len(OK))]
        call = Call()
        connection.send(call)
        peer.sendall(OK)
        while not call.told:  # the loop reads now
            await asyncio.sleep(0.001)
        return box.patient

    assert not connected(large)
    assert not connected(split)


def test_a_request_that_the_peer_takes_bit_by_bit_arrives_whole():
    async def scenario(box, connection, peer):
        body = bytes(range(256)) * 2**15
        connection.send(Call(body))
        peer.setblocking(False)
        got = b""
        while len(got) < len(body):
            await asyncio.sleep(0)
            try:
                got += peer.recv(2**20)
            except BlockingIOError:
                continue
        assert got == body
        assert not box.patient

    connected(scenario)


def test_a_connection_that_the_peer_closed_is_told_before_anything_more_is_sent_on_it():
    async def scenario(box, connection, peer):
        call = Call()
        connection.send(call)
        peer.sendall(OK[:20])
        peer.close()
        read_until(box, lambda: connection.dead)
        assert call.told == [("reset", 20)]
        assert connection._pool.lost_ones == [connection]

    connected(scenario)


def test_a_connection_that_we_end_is_told_once():
    async def scenario(box, connection, peer):
        connection.abort()
        connection.abort()
        assert box.untold == 1
        await asyncio.sleep(0)
        assert box.untold == 0
        assert connection._pool.lost_ones == [connection]
        assert peer.recv(1) == b""

    connected(scenario)


def test_the_clock_looks_between_what_is_due_and_leaves_the_loop_its_time():
    async def run():
        clock, told, loops = Clock(asyncio.get_running_loop()), [], [0]

        def look():
            told.append("look")
            return 0.001 if len(told) < 50 else NEVER_S, True

        async def turn():
            while True:
                loops[0] += 1
                await asyncio.sleep(0)

        clock.look = look
        turning = asyncio.create_task(turn())
        start_s = time.monotonic()
        done = asyncio.Event()
        for i in range(20):
            clock.at(start_s + i * HOLD_S / 5, lambda due_s: told.append("due"))
        clock.at(start_s + HOLD_S * 4, lambda due_s: done.set())
        await done.wait()
        turning.cancel()
        clock.close()
        assert told.count("due") == 20
        assert told.count("look") >= 20
        assert loops[0] >= 3  # held for HOLD_S at a time, not for all of it

    asyncio.run(run())


def test_fast_arrivals_count_every_answer_also_where_the_server_closes(serve, answering, window):
    closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    async def in_turn(reader, writer):
        for answer in (OK, OK, closing):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)

    for handler in (answering(OK), in_turn):
        samples = window(serve(handler), rate_per_s=1_000, duration_s=0.4).steps[0]
        assert (samples.sent, samples.ok, samples.errors) == (400, 400, {})


def test_fast_requests_that_change_data_are_sent_once(serve, window):
    seen = []

    async def closes_without_a_word(reader, writer):
        for _ in range(5):
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(OK)

    step = Step(name="POST /", method="POST", paths=("/",))
    samples = window(serve(closes_without_a_word), steps=(step,), rate_per_s=1_000, duration_s=0.4, error_rate_stop=1.0).steps[0]
    assert samples.sent == 400
    assert samples.ok <= len(seen) <= samples.sent
    assert set(samples.errors) <= {"reset"}
