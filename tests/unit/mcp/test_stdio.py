"""The two longest tools with the SDK's own client over a real pipe: a plan of growth by start and wait, and a race that refuses a wrong answer."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.hashing import APP

mcp = pytest.importorskip("mcp")

#: the server as ``perfloop mcp`` starts it, its windows as short as a test allows
SHORT = """
from perfloop.loop import bursts, reach
from perfloop.mcp.server import serve
from perfloop.model.requests import McpRequest
import sys
reach.WINDOW_S, reach.IDLE_S, reach.LOOKS, reach.LOOK_S, reach.CLIMB_S, reach.RESTARTS = 0.4, 0.2, 1, 0.8, 0.4, 0
reach.SHARES, reach.CLIMB_START_PER_S, bursts.WINDOWS, bursts.REPEATS = (0.2, 0.4), 16, 1, 3
whole = reach.gentle
reach.gentle = lambda session, rounds: whole(session, 1)
serve(McpRequest(allow_changes="--allow-changes" in sys.argv))
"""


@pytest.fixture
def port(project: Path) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    (project / "app.py").write_text(APP)
    (project / "perfloop.toml").write_text(
        f'[target]\nurl = "http://127.0.0.1:{number}"\nenvironment = "sandbox"\n'
        f'[gate]\nstart_command = "{sys.executable} app.py {{port}}"\n[slo]\nlatency_p95_ms = 2000\n[measure]\nwarmup_s = 0\nrate_per_s = 5\n'
    )
    process = subprocess.Popen([sys.executable, "app.py", str(number)], cwd=project)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", number)) == 0:
                break
        time.sleep(0.05)
    yield number
    process.kill()
    process.wait()


def talk(folder: Path, work: Callable[[Any], Awaitable[Any]], *flags: str) -> Any:
    from mcp.client.stdio import StdioServerParameters, stdio_client

    async def run() -> Any:
        (folder / "server.py").write_text(SHORT)
        asked = StdioServerParameters(command=sys.executable, args=["server.py", *flags], cwd=str(folder), env=dict(os.environ))
        async with mcp.Client(stdio_client(asked)) as client:
            return await work(client)

    return asyncio.run(run())


async def finished(client: Any, tool: str, **asked: Any) -> dict[str, Any]:
    """Start it, and ask for its job until it is over."""
    answer = await client.call_tool(tool, {**asked, "wait_s": 0})
    assert not answer.is_error, answer.content[0].text
    started = answer.structured_content
    assert started["state"] == "running"
    assert started["job"] in started["next"]
    for _ in range(20):
        answer = await client.call_tool(tool, {"job": started["job"], "wait_s": 45})
        assert not answer.is_error, answer.content[0].text
        if answer.structured_content["state"] != "running":
            break
    return dict(answer.structured_content)


def test_a_plan_of_growth_is_started_waited_for_and_told_in_short(project: Path, port: int) -> None:
    async def work(client: Any) -> tuple[Any, Any]:
        refused = await client.call_tool("perf_capacity", {"right_size": True})
        return refused, await finished(client, "perf_capacity", growth="3x", now_per_s=4, gentle=True)

    refused, plan = talk(project, work)
    assert refused.is_error
    assert "--allow-changes" in refused.content[0].text
    assert plan["state"] == "done"
    assert plan["wanted_per_s"] == 12
    assert plan["saturates_in_order"][0]["resource"].startswith("CPU of")
    assert plan["end_predicted_per_s"]["value"] > 0
    assert plan["end_measured_per_s"] is None
    assert (project / ".perfloop" / "runs" / plan["run_id"] / "report.html").exists()


def test_a_race_is_offered_only_where_changes_are_allowed_and_refuses_a_wrong_answer(project: Path, port: int) -> None:
    for words in (["init", "-q"], ["add", "app.py"], ["commit", "-qm", "first"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *words], cwd=project, check=True)
    (project / "app.py").write_text(APP.replace('b"ok"', 'b"no"'))
    (project / "fix.diff").write_bytes(subprocess.run(["git", "diff"], cwd=project, check=True, capture_output=True).stdout)
    subprocess.run(["git", "checkout", "-q", "app.py"], cwd=project, check=True)

    async def work(client: Any) -> tuple[Any, Any, Any]:
        nothing = await client.call_tool("perf_try", {})
        missing = await client.call_tool("perf_try", {"patch": ["none.diff"], "wait_s": 45})
        return nothing, missing, await finished(client, "perf_try", patch=["fix.diff"])

    nothing, missing, raced = talk(project, work, "--allow-changes")
    assert "no candidate is named" in nothing.content[0].text
    assert "there is no patch none.diff" in missing.content[0].text
    assert "fix:" in missing.content[0].text
    (candidate,) = raced["candidates"]
    assert candidate["decision"] == "refused"
    assert "answers differ" in candidate["reason"]
    assert not talk(project, lambda client: client.call_tool("perf_try", {"patch": ["fix.diff"]})).structured_content
