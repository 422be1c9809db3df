"""Tools for what takes longest: how far a service goes, and candidates of code or settings; the second only where changes are allowed."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import AfterValidator, Field

from perfloop import api
from perfloop.errors import ChangeRefused, UsageError
from perfloop.mcp.live import Approval, JobId, Served, WaitS, can_ask, waited
from perfloop.model.limits import RatePerS
from perfloop.model.request_words import Url
from perfloop.model.requests import CapacityRequest, Request, TryRequest, check_growth


class AskCapacityRequest(Request):
    """Ask how far a service goes, or ask for a sweep that runs."""

    url: Url = ""
    growth: Annotated[str, AfterValidator(check_growth)] = Field(default="", description="How many times the load now to plan for: 10x.")
    now_per_s: RatePerS | None = Field(default=None, description="The load at its busiest now; empty: from an access log, else the configured rate.")
    gentle: bool = Field(default=False, description="Stay at 40 % of the predicted end: predict it, do not reach it.")
    right_size: bool = Field(default=False, description="Also try smaller CPU and memory limits; only where changes are allowed.")
    job: JobId = ""
    wait_s: WaitS = 40.0


class AskTryRequest(Request):
    """Try candidates, or ask for a trial that runs."""

    set: tuple[str, ...] = Field(default=(), max_length=16, description="FILE:KEY=VALUE: settings of the running service.")
    branch: tuple[str, ...] = Field(default=(), max_length=16, description="Git references; several race.")
    patch: tuple[str, ...] = Field(default=(), max_length=16, description="Patch files as git diff writes them; several race.")
    against: str = Field(default="HEAD", min_length=1, max_length=200, description="The git reference to beat.")
    job: JobId = ""
    wait_s: WaitS = 40.0


async def capacity(request: AskCapacityRequest, served: Served, context: Context[Any, Any]) -> dict[str, Any]:
    """Start a capacity plan or look after one."""
    if request.job:
        return await waited(served.jobs.get(request.job), request.wait_s, context)
    if request.right_size and not served.allow_changes:
        raise ChangeRefused("limits are not tried by this server", why="it was started without --allow-changes", fix="leave right_size out, or ask a person")
    asked = CapacityRequest.model_validate(request.model_dump(exclude={"job", "wait_s"}) | {"no_input": True})
    return await waited(served.jobs.start(f"capacity of {request.url or 'the configured service'}", lambda: api.capacity(asked)), request.wait_s, context)


async def trial(request: AskTryRequest, served: Served, context: Context[Any, Any]) -> dict[str, Any]:
    """Race candidates of code, or try settings; what is proved to help is kept."""
    if request.job:
        return await waited(served.jobs.get(request.job), request.wait_s, context)
    if not (request.set or request.branch or request.patch):
        raise UsageError("no candidate is named", fix="pass set (FILE:KEY=VALUE), branch or patch")
    asked = TryRequest.model_validate(request.model_dump(exclude={"job", "wait_s"}) | {"yes": bool(request.set) and await _agreed(request, context)})
    named = ", ".join([*request.set, *request.branch, *request.patch])
    return await waited(served.jobs.start(f"try {named}"[:200], lambda: api.try_code(asked)), request.wait_s, context)


async def _agreed(request: AskTryRequest, context: Context[Any, Any]) -> bool:
    """Whether a person says yes to settings that need a restart or carry a risk; without one, these are refused and the safe ones are tried."""
    if not can_ask(context):
        return False
    listed = "\n".join(f"- {text}" for text in request.set)
    answer = await context.elicit(f"perfloop would try these settings on the running service, and put back what does not help:\n{listed}", Approval)
    return answer.action == "accept" and answer.data.approve
