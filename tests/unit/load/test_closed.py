"""One request after another, against real servers."""

from __future__ import annotations

import asyncio
import time

import pytest

from perfloop.errors import CannotMeasure, UsageError
from perfloop.load.closed import run_solo
from perfloop.model.journey import Step
from perfloop.stats.histogram import Histogram

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
STEP = Step(name="GET /", paths=("/1", "/2", "/3"))


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def test_cycles_over_the_paths_on_one_connection(serve):
    connections, seen = [], []

    async def handle(reader, writer):
        connections.append(1)
        while True:
            seen.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
            writer.write(OK)

    samples = run_solo(url(serve(handle)), STEP, 7, 10.0)
    assert (samples.sent, samples.ok, samples.errors, samples.bytes_in) == (7, 7, {}, 7 * len(OK))
    assert seen == [b"/1", b"/2", b"/3", b"/1", b"/2", b"/3", b"/1"]
    assert len(connections) == 1
    assert sum(samples.latency.counts) == 7


def test_ends_at_its_time(serve, answering):
    async def slow(head):
        await asyncio.sleep(0.05)
        return OK

    samples = run_solo(url(serve(answering(slow))), STEP, 10_000, 0.4)
    assert 1 <= samples.sent <= 9
    assert Histogram.from_data(samples.latency).quantile(0.5) > 0.045


def test_classes(serve, answering, free_port):
    async def hang(reader, writer):
        await reader.read()

    async def drip(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def short(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
        await writer.drain()

    def errors(port: int) -> dict[str, int]:
        samples = run_solo(url(port), STEP, 2, 5.0, timeout_s=0.2)
        assert samples.sent == samples.ok + sum(samples.errors.values()) == 2
        return samples.errors

    assert errors(free_port) == {"connect": 2}
    assert errors(serve(hang)) == {"timeout": 2}
    assert errors(serve(drip)) == {"timeout": 2}
    assert errors(serve(short)) == {"reset": 2}
    assert errors(serve(answering(b"garbage\r\n\r\n"))) == {"protocol": 2}
    assert errors(serve(answering(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"))) == {"status_5xx": 2}


def test_replaces_a_connection_that_the_server_closed_while_idle(serve):
    async def once(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()

    port = serve(once)
    samples = run_solo(url(port), STEP, 4, 5.0)
    assert (samples.ok, samples.errors) == (4, {})


def test_bounds_and_bad_input(free_port):
    with pytest.raises(ValueError, match="bounds"):
        run_solo(url(free_port), STEP, 0, 1.0)
    with pytest.raises(UsageError):
        run_solo("nonsense", STEP, 1, 1.0)
    started = time.monotonic()
    with pytest.raises(CannotMeasure, match="resolved"):
        run_solo("http://no-such-host.invalid", STEP, 1, 1.0)
    assert time.monotonic() - started < 30
