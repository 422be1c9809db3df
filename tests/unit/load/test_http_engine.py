"""What the engine counts, against real servers that behave well and badly."""

from __future__ import annotations

import asyncio
import socket
import struct
import time

import pytest

from perfloop.errors import CannotMeasure, UsageError
from perfloop.model.journey import Step
from perfloop.stats.histogram import Histogram

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
EMPTY = b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n"


def one(window):
    assert len(window.steps) == 1
    return window.steps[0]


def test_counts_every_request_of_the_schedule(serve, answering, window):
    progress: list = []
    result = window(serve(answering(OK)), duration_s=1.5, progress=progress)
    samples = one(result)
    assert (samples.sent, samples.ok, samples.errors) == (60, 60, {})
    assert samples.bytes_in == 60 * len(OK)
    assert result.duration_s == pytest.approx(1.5)
    assert result.achieved_per_s == pytest.approx(40, rel=0.05)
    assert not result.stopped_early
    assert result.started_at.endswith("Z")
    assert progress[0].sent < progress[-1].sent == 60
    assert progress[-1].histogram.count == 60
    assert len(result.per_second_p95_s) == len(progress)


@pytest.mark.parametrize("words", [{}, {"users": 2, "rate_per_s": 0}])
def test_bytes_out_of_bare_steps_are_those_that_the_server_read(serve, window, words):
    seen = [0]

    async def count(reader, writer):
        while data := await reader.read(65_536):
            seen[0] += len(data)
            for _ in range(data.count(b"\r\n\r\n")):
                writer.write(OK)

    for paths in (("/a",), ("/a", "/a-longer-path")):
        seen[0] = 0
        samples = one(window(serve(count), steps=(Step(name="x", paths=paths),), **words))
        assert samples.ok == samples.sent
        assert samples.bytes_out == seen[0]


def test_keeps_connections_alive_and_within_their_bound(serve, window):
    accepted, open_now, most = [], [0], [0]

    async def slow(reader, writer):
        accepted.append(1)
        open_now[0] += 1
        most[0] = max(most[0], open_now[0])
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(0.05)
                writer.write(OK)
        finally:
            open_now[0] -= 1

    result = window(serve(slow), connections_max=3)
    assert one(result).ok == 24
    assert most[0] <= 3
    assert len(accepted) == 3


def test_steps_are_drawn_by_weight_paths_in_turn_and_headers_sent(serve, answering, window):
    seen: list[bytes] = []
    steps = (
        Step(name="a", paths=("/a/1", "/a/2?q=x y"), weight=3, headers=(("X-Step", "yes"),)),
        Step(name="b", method="POST", paths=("/b",), body='{"n": 1}'),
    )

    async def handle(reader, writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"POST"):
                head += await reader.readexactly(8)
            seen.append(head)
            writer.write(OK)

    result = window(serve(handle), steps=steps, headers=(("Authorization", "Bearer t"),), seed=7)
    assert {s.name: s.ok for s in result.steps}["a"] > {s.name: s.ok for s in result.steps}["b"] > 0
    gets = [head.split(b" HTTP")[0] for head in seen if head.startswith(b"GET")]
    assert gets[:2] == [b"GET /a/1", b"GET /a/2?q=x%20y"]
    assert abs(gets.count(b"GET /a/1") - gets.count(b"GET /a/2?q=x%20y")) <= 1
    assert all(b"Authorization: Bearer t\r\n" in head for head in seen)
    assert all((b"X-Step: yes" in head) == head.startswith(b"GET") for head in seen)
    post = next(head for head in seen if head.startswith(b"POST"))
    assert post.endswith(b'{"n": 1}')
    assert b"Content-Length: 8" in post


def test_the_same_seed_sends_the_same_requests(serve, answering, window):
    def order(seed: int) -> list[bytes]:
        seen: list[bytes] = []
        steps = tuple(Step(name=name, paths=(f"/{name}",)) for name in "abc")
        window(serve(answering(OK, seen)), steps=steps, seed=seed, arrival="poisson", connections_max=1)
        return [head.split(b" HTTP")[0] for head in seen]

    assert order(3) == order(3) != order(4)


@pytest.mark.parametrize(("status", "error"), [(b"404 Not Found", "status_4xx"), (b"503 Busy", "status_5xx"), (b"302 Found", None), (b"204 No Content", None)])
def test_statuses(serve, answering, window, status, error):
    answer = EMPTY % status if not status.startswith(b"204") else b"HTTP/1.1 204 No Content\r\n\r\n"
    samples = one(window(serve(answering(answer)), error_rate_stop=1.0))
    assert (samples.ok, samples.errors) == ((0, {error: 24}) if error else (24, {}))


def test_connection_refused(free_port, window):
    result = window(free_port)
    assert one(result).errors == {"connect": 24}
    assert result.achieved_per_s == 0


def test_a_server_that_hangs_is_a_timeout_and_the_window_ends(serve, window):
    async def hang(reader, writer):
        await reader.read()

    assert one(window(serve(hang), timeout_s=0.3)).errors == {"timeout": 24}


def test_a_server_that_drips_for_ever_is_a_timeout(serve, window):
    async def drip(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    samples = one(window(serve(drip), timeout_s=0.3))
    assert samples.errors == {"timeout": 24}
    assert samples.bytes_in > 0


def test_an_endless_body_is_bounded(serve, window):
    async def flood(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 2**18)
            await writer.drain()

    samples = one(window(serve(flood), rate_per_s=4, duration_s=0.5, timeout_s=5))
    assert samples.ok == 0
    assert set(samples.errors) <= {"protocol", "timeout"}
    assert samples.bytes_in < 3 * 70 * 2**20


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\x16\x03 this is not HTTP\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nzz",
    ],
)
def test_garbage_on_the_wire_is_a_protocol_error(serve, answering, window, garbage):
    assert one(window(serve(answering(garbage)), timeout_s=1.0)).errors == {"protocol": 24}


def test_an_early_close_in_the_body_is_a_reset(serve, window):
    async def short(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        await writer.drain()

    assert one(window(serve(short))).errors == {"reset": 24}


def test_a_reset_connection(serve, window):
    async def reset(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    assert one(window(serve(reset))).errors == {"reset": 24}


def test_a_body_that_ends_with_the_connection_is_a_success(serve, window):
    async def old(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        await writer.drain()

    assert one(window(serve(old))).ok == 24


def test_chunks_split_at_every_byte_and_gzip_bodies_are_counted_only(serve, window):
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n\x1f\x8bnot\r\n3\r\ngzi\r\n0\r\n\r\n"

    async def split(reader, writer):
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while await reader.readuntil(b"\r\n\r\n"):
            for byte in answer:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)

    samples = one(window(serve(split), rate_per_s=10, duration_s=0.5))
    assert (samples.ok, samples.bytes_in) == (5, 5 * len(answer))


def test_an_idle_connection_closed_by_the_server_is_replaced_and_counted(serve, window):
    """The server answers once per connection, promises to keep it, and resets it when the second request comes."""

    async def forgetful(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")

    result = window(serve(forgetful))
    assert one(result).ok == 24
    assert result.retries > 0


def test_a_request_that_changes_data_is_not_sent_twice(serve, window):
    heads = []

    async def forgetful(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        await writer.drain()
        heads.append(await reader.readuntil(b"\r\n\r\n"))

    result = window(serve(forgetful), steps=(Step(name="POST /", method="POST", paths=("/",)),))
    assert result.retries == 0
    assert one(result).errors.get("reset", 0) > 0
    assert len(heads) == one(result).sent


def test_data_nobody_asked_for_spoils_the_connection_not_the_count(serve, answering, window):
    assert one(window(serve(answering(OK + b"HTTP/1.1 200 OK\r\nContent-Le")))).ok == 24


def test_head_requests_have_no_body(serve, answering, window):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
    samples = one(window(serve(answering(answer)), steps=(Step(name="HEAD /", method="HEAD", paths=("/",)),)))
    assert samples.ok == 24


def test_interim_responses_are_no_answer(serve, answering, window):
    samples = one(window(serve(answering(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + EMPTY % b"404 Not Found")), error_rate_stop=1.0))
    assert samples.errors == {"status_4xx": 24}


def test_too_many_errors_end_the_window_early(serve, answering, window):
    result = window(serve(answering(EMPTY % b"500 Broken")), rate_per_s=200, duration_s=5)
    assert "requests failed" in result.stopped_early
    assert "status 500" in result.stopped_early
    assert 50 <= one(result).sent < 500
    assert result.duration_s < 4


def test_a_stall_shows_in_the_tail_from_the_intended_start(serve, window):
    """50 requests/s for 3 s, and the whole server stops for 1 s: a third of the requests wait, evenly from 0 to 1 s."""
    first = []

    async def stalling(reader, writer):
        while await reader.readuntil(b"\r\n\r\n"):
            first.append(time.monotonic())
            if len(first) == 50:
                time.sleep(1.0)  # blocks the whole server on purpose
            writer.write(OK)

    result = window(serve(stalling), rate_per_s=50, duration_s=3, timeout_s=5)
    latency = Histogram.from_data(one(result).latency)
    assert one(result).ok == 150
    assert latency.quantile(0.99) > 0.85
    assert latency.quantile(0.5) < 0.3
    assert 0.10 < latency.share_above(0.5) < 0.25  # 25 of 150 in truth
    assert latency.max_s > 0.95


def test_a_known_delay_is_measured(serve, answering, window):
    turn = [0]

    async def delayed(head):
        turn[0] += 1
        await asyncio.sleep(0.2 if turn[0] % 4 == 0 else 0.05)
        return OK

    latency = Histogram.from_data(one(window(serve(answering(delayed)), duration_s=1.0)).latency)
    assert 0.049 < latency.quantile(0.5) < 0.19
    assert 0.198 < latency.quantile(0.95) < 0.6


def test_a_service_that_falls_behind_does_not_achieve_the_rate(serve, window):
    lock = asyncio.Lock()

    async def serial(reader, writer):
        while await reader.readuntil(b"\r\n\r\n"):
            async with lock:
                await asyncio.sleep(0.04)
            writer.write(OK)

    result = window(serve(serial), rate_per_s=50, duration_s=1.5, timeout_s=8)
    assert one(result).ok == 75
    assert result.achieved_per_s < 35  # 25 at the most, in truth


@pytest.mark.parametrize(
    "words",
    [
        {"base_url": "ftp://127.0.0.1/"},
        {"base_url": "http://user:secret@127.0.0.1/"},
        {"headers": (("X", "a\r\nb"),)},
        {"ca_file": "no/such/file.pem"},
        {"base_url": "http://127.0.0.1:99999"},
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_runs(window, words):
    with pytest.raises(UsageError) as raised:
        window(1, **words)
    assert raised.value.fix
    assert "secret" not in raised.value.render()


def test_a_host_that_does_not_resolve(window):
    with pytest.raises(CannotMeasure, match="cannot go on"):
        window(1, base_url="http://no-such-host.invalid/")
