"""Streamable HTTP: real sockets on loopback, a token for every request, no foreign host."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from perfloop.model.requests import McpRequest

mcp = pytest.importorskip("mcp")
uvicorn = pytest.importorskip("uvicorn")
httpx2 = pytest.importorskip("httpx2")

TOKEN = "a-token-for-the-test"


@pytest.fixture
def url(project: object) -> Iterator[str]:
    from perfloop.mcp.http import app
    from perfloop.mcp.server import server

    running = uvicorn.Server(uvicorn.Config(app(server(McpRequest()), TOKEN), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        while not running.started:
            assert thread.is_alive()
            time.sleep(0.02)
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}/mcp"
    finally:
        running.should_exit = True
        thread.join(20)


def test_with_the_token_the_tools_are_served_and_without_it_nothing_is(url: str) -> None:
    from mcp.client.streamable_http import streamable_http_client

    async def names() -> list[str]:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as http,
            mcp.Client(streamable_http_client(url, http_client=http)) as client,
        ):
            return [tool.name for tool in (await client.list_tools()).tools]

    assert "perf_context" in asyncio.run(names())
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert httpx2.post(url, json=body, headers=headers).status_code == 401
    foreign = {"Authorization": f"Bearer {TOKEN}", "Host": "evil.example", "Accept": "application/json, text/event-stream"}
    assert httpx2.post(url, json=body, headers=foreign).status_code in (403, 421)
