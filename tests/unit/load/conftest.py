"""Small real servers on loopback, each in a thread of its own, and one window of load against them."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from perfloop.load.run import Progress, run_window
from perfloop.model.journey import Step, Workload
from perfloop.model.run import Window

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Servers:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def start(self, handler: Handler, tls: Any = None) -> int:
        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await handler(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        async def listen() -> int:
            server = await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=tls, backlog=512)
            return int(server.sockets[0].getsockname()[1])

        return asyncio.run_coroutine_threadsafe(listen(), self.loop).result(10)

    def close(self) -> None:
        async def end() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """Starts a server with a stream handler; returns its port."""
    servers = Servers()
    yield servers.start
    servers.close()


@pytest.fixture
def answering() -> Callable[..., Handler]:
    """A keep-alive server: ``answering(b"...")`` writes these bytes for each request, or what a function of the request's head returns."""

    def make(answer: bytes | Callable[[bytes], Awaitable[bytes]], seen: list[bytes] | None = None) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if seen is not None:
                    seen.append(head)
                writer.write(answer if isinstance(answer, bytes) else await answer(head))
                await writer.drain()

        return handle

    return make


@pytest.fixture
def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def sent() -> Callable[..., Window]:
    """Sends a workload and checks what is true of every window: each request ended in exactly one class."""

    def send(workload: Workload, progress: list[Progress] | None = None) -> Window:
        load = run_window(workload, "test")
        while True:
            try:
                told = next(load)
            except StopIteration as stop:
                result: Window = stop.value
                break
            if progress is not None:
                progress.append(told)
        for step in result.steps:
            assert step.sent == step.ok + sum(step.errors.values())
            assert step.ok == sum(step.latency.counts)
        assert sum(slot.sent for slot in result.per_second) == sum(step.sent for step in result.steps)
        return result

    return send


@pytest.fixture
def window(sent: Callable[..., Window]) -> Callable[..., Window]:
    """Sends one window of open load to a port."""

    def send(port: int, /, steps: tuple[Step, ...] = (Step(name="GET /", paths=("/",)),), progress: list[Progress] | None = None, **words: Any) -> Window:
        given = {"rate_per_s": 40, "duration_s": 0.6, "arrival": "constant", "timeout_s": 2.0, "base_url": f"http://127.0.0.1:{port}", **words}
        return sent(Workload(steps=steps, **given), progress)

    return send
