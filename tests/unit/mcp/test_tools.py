from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from perfloop.model.requests import McpRequest
from perfloop.model.result import RunResult

mcp = pytest.importorskip("mcp")

LIST_MAX_BYTES = 12_000


def _with_client(work: Callable[[Any], Awaitable[Any]]) -> Any:
    from perfloop.mcp.server import server

    async def run() -> Any:
        async with mcp.Client(server(McpRequest())) as client:
            return await work(client)

    return asyncio.run(run())


def test_tools_are_few_small_and_honest() -> None:
    tools = _with_client(lambda client: client.list_tools()).tools
    assert [tool.name for tool in tools] == ["perf_context", "perf_runs", "perf_diagnose", "perf_compare", "perf_plan"]
    assert len(json.dumps([tool.model_dump(mode="json", exclude_none=True) for tool in tools])) < LIST_MAX_BYTES
    for tool in tools:
        assert tool.description
        assert tool.annotations.destructive_hint is False
        assert "config" not in tool.input_schema["properties"]
        assert all(field.get("description") for field in tool.input_schema["properties"].values())
    assert tools[3].input_schema["required"] == ["a"]


def test_context_and_runs_come_from_the_store(project: Path, stored: RunResult) -> None:
    answer = _with_client(lambda client: client.call_tool("perf_context", {}))
    assert not answer.is_error
    context = answer.structured_content
    assert context["run_id"] == stored.run_id
    assert context["pain_points"][0]["rule"] == "n-plus-one"
    assert context["scalability"]["rate_max_per_s"] == 131
    runs = _with_client(lambda client: client.call_tool("perf_runs", {"limit": 3})).structured_content
    assert [row["run_id"] for row in runs["runs"]] == [stored.run_id]


def test_errors_say_what_why_and_fix(project: Path) -> None:
    answer = _with_client(lambda client: client.call_tool("perf_context", {"run": "no-such-run"}))
    assert answer.is_error
    assert answer.content[0].text.count("error: ") >= 1
    assert "fix:" in answer.content[0].text
    assert _with_client(lambda client: client.call_tool("perf_runs", {"limit": 0})).is_error
