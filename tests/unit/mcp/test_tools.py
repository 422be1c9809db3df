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

LIST_MAX_BYTES = 14_000


def _with_client(work: Callable[[Any], Awaitable[Any]], **asked: Any) -> Any:
    from perfloop.mcp.server import server

    async def run() -> Any:
        async with mcp.Client(server(McpRequest(**asked))) as client:
            return await work(client)

    return asyncio.run(run())


def test_tools_are_few_small_and_honest() -> None:
    tools = _with_client(lambda client: client.list_tools(), allow_changes=True).tools
    assert len(json.dumps([tool.model_dump(mode="json", exclude_none=True) for tool in tools])) < LIST_MAX_BYTES
    for tool in tools:
        assert tool.description
        assert "config" not in tool.input_schema["properties"]
        assert all(field.get("description") for field in tool.input_schema["properties"].values())
    by_name = {tool.name: tool for tool in tools}
    assert by_name["perf_compare"].input_schema["required"] == ["a"]
    assert [name for name, tool in by_name.items() if tool.annotations.destructive_hint] == ["perf_try", "perf_apply"]
    assert by_name["perf_measure"].annotations.read_only_hint is False


def test_nothing_that_changes_the_target_is_offered_unless_allowed() -> None:
    names = [tool.name for tool in _with_client(lambda client: client.list_tools()).tools]
    assert {"perf_context", "perf_measure", "perf_diagnose", "perf_compare", "perf_plan", "perf_capacity"} <= set(names)
    assert not {"perf_apply", "perf_rollback", "perf_try"} & set(names)


def test_a_plan_is_applied_only_by_the_hash_of_what_was_read(project: Path, stored: RunResult) -> None:
    from perfloop.model.base import utc_now
    from perfloop.model.change import Plan
    from perfloop.store.runs import RunStore

    plan = Plan(id=f"plan-{stored.run_id}", run_id=stored.run_id, created_at=utc_now(), target_url="http://127.0.0.1:1", changes=())
    RunStore(project).save_plan(plan)
    asked = {"plan_id": plan.id, "plan_hash": "0123456789abcdef"}
    answer = _with_client(lambda client: client.call_tool("perf_apply", asked), allow_changes=True)
    assert answer.is_error
    assert "is not that of" in answer.content[0].text


def test_resources_are_runs_reports_and_rules(project: Path, stored: RunResult) -> None:
    report = _with_client(lambda client: client.read_resource(f"perf://reports/{stored.run_id}"))
    assert "n-plus-one" in report.contents[0].text
    rule = _with_client(lambda client: client.read_resource("perf://rules/n-plus-one"))
    assert "What it finds" in rule.contents[0].text


def test_a_service_that_is_down_is_told_with_what_and_fix(project: Path) -> None:
    answer = _with_client(lambda client: client.call_tool("perf_measure", {"url": "http://127.0.0.1:1", "wait_s": 30}))
    assert answer.is_error
    assert "error:" in answer.content[0].text
    assert "fix:" in answer.content[0].text
    assert _with_client(lambda client: client.call_tool("perf_measure", {"wait_s": 46})).is_error


def test_context_and_runs_come_from_the_store(project: Path, stored: RunResult) -> None:
    answer = _with_client(lambda client: client.call_tool("perf_context", {}))
    assert not answer.is_error
    context = answer.structured_content
    assert context["run_id"] == stored.run_id
    assert context["pain_points"][0]["rule"] == "n-plus-one"
    assert context["scalability"]["rate_max_per_s"] == 131
    assert [row["run_id"] for row in context["runs"]] == [stored.run_id]
    assert len(json.dumps(context)) < 3_000


def test_without_runs_the_context_says_what_comes_next(project: Path) -> None:
    context = _with_client(lambda client: client.call_tool("perf_context", {})).structured_content
    assert context["runs"] == []
    assert "perf_measure" in context["next"]


def test_errors_say_what_why_and_fix(project: Path) -> None:
    answer = _with_client(lambda client: client.call_tool("perf_context", {"run": "no-such-run"}))
    assert answer.is_error
    assert answer.content[0].text.count("error: ") >= 1
    assert "fix:" in answer.content[0].text
    assert _with_client(lambda client: client.call_tool("perf_context", {"runs": 99})).is_error
