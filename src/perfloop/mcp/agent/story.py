"""``perfloop agent run``: the model, the tools of an in-process server, the budgets, and the check of what it claims."""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator
from pathlib import Path

from perfloop.errors import UsageError
from perfloop.loop.stored import opened
from perfloop.mcp.agent.checked import strike
from perfloop.mcp.agent.run import Budget, Story, tell
from perfloop.mcp.agent.vendors import connect
from perfloop.mcp.server import server
from perfloop.model.event import Event
from perfloop.model.replies import AgentRunResult
from perfloop.model.requests import AgentRequest, McpRequest


def run(request: AgentRequest, cwd: Path | None = None) -> Generator[Event, None, AgentRunResult]:
    """Everything that can be refused is refused before the model is asked anything."""
    if request.cost_max is not None and not (request.price_in or request.price_out):
        raise UsageError(
            "a cost is bounded, but no price is given",
            why=f"--cost-max {request.cost_max:g} needs prices",
            fix="--price-in and --price-out, for a million tokens",
        )
    model = connect(request.vendor, request.model, request.base_url)
    _, store = opened(request.config, cwd)
    folder = store.root / "agent"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    transcript = folder / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}.jsonl"
    transcript.touch(mode=0o600)
    budget = Budget(request.steps_max, request.tokens_max, request.cost_max, request.price_in, request.price_out)
    story = Story(request, model, transcript, budget)
    tools = server(McpRequest(config=request.config, allow_changes=request.allow_changes))
    return (yield from tell(story, tools, lambda text: strike(text, request.config, cwd, transcript.with_suffix(".answer.txt"))))
