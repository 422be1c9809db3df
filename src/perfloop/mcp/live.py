"""Tools that do something: measuring sends traffic; applying and undoing change the target, and exist only where the server was started with ``--allow-changes``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from perfloop import api
from perfloop.errors import ChangeRefused, UsageError
from perfloop.loop.stored import load_plan
from perfloop.mcp import brief
from perfloop.mcp.jobs import WAIT_MAX_S, Job, Jobs
from perfloop.model.change import Plan, Safety
from perfloop.model.requests import ApplyRequest, CheckRequest, QueryRequest, Request, RollbackRequest

WaitS = Annotated[float, Field(ge=0, le=WAIT_MAX_S, description="Seconds to wait for the end, 0 to 45.")]
JobId = Annotated[str, Field(max_length=40, description="Ask for this job again instead of starting one.")]


@dataclass
class Served:
    """What the tools of one server share."""

    config: str
    allow_changes: bool
    jobs: Jobs = field(default_factory=Jobs)


class MeasureRequest(CheckRequest):
    """Measure and diagnose, or ask for a measurement that runs."""

    job: JobId = ""
    wait_s: WaitS = 40.0


class AskQueryRequest(Request):
    """Look at one query, or ask for a look that runs."""

    query: str = Field(default="", max_length=20_000, description="One SELECT, or an id of pg_stat_statements.")
    was: str = Field(
        default="", max_length=200, description="When it was fast: a run's id, a baseline's name, a date, first or last; empty: stored snapshots are searched."
    )
    no_run: bool = Field(default=False, description="Plan it only; do not execute it.")
    job: JobId = ""
    wait_s: WaitS = 40.0


class ApplyPlanRequest(Request):
    """Apply a saved plan, or ask for an application that runs."""

    plan_id: str = Field(default="", max_length=200, description="Id of the plan, from perf_plan.")
    plan_hash: str = Field(default="", max_length=64, description="Its hash, from perf_plan: what is applied is what was read.")
    budget: str = Field(default="", max_length=10, description="Time for the whole, as 5m; empty: the configured limit.")
    job: JobId = ""
    wait_s: WaitS = 40.0


class UndoRequest(Request):
    """Undo changes; closing a stuck one by hand is for people."""

    change: str = Field(default="", max_length=100, description="Id of the change; empty: what is open for this target.")
    all: bool = Field(default=False, description="Every change in the journal that is not undone, kept ones included.")
    show: bool = Field(default=False, description="Print the commands that would undo it, and do nothing.")


class Approval(BaseModel):
    """What a person is asked before a change that is not safe by itself."""

    approve: bool = Field(description="Apply these changes now?")


async def measure(request: MeasureRequest, served: Served, context: Context[Any, Any]) -> dict[str, Any]:
    """Start a measurement or look after one."""
    asked = CheckRequest.model_validate(request.model_dump(exclude={"job", "wait_s"}) | {"no_input": True})
    job = served.jobs.get(request.job) if request.job else served.jobs.start(f"measure {request.url or 'the configured service'}", lambda: api.check(asked))
    return await waited(job, request.wait_s, context)


async def query(request: AskQueryRequest, served: Served, context: Context[Any, Any]) -> dict[str, Any]:
    """Why one query is slow, or slower than it was; looks only."""
    if request.job:
        return await waited(served.jobs.get(request.job), request.wait_s, context)
    if not request.query:
        raise UsageError("no query is given", fix="pass one SELECT, or an id of pg_stat_statements")
    asked = QueryRequest(config=served.config, query=request.query, was=request.was, no_run=request.no_run)
    return await waited(served.jobs.start("look at a query", lambda: api.query(asked)), request.wait_s, context)


async def apply(request: ApplyPlanRequest, served: Served, context: Context[Any, Any]) -> dict[str, Any]:
    """Apply the plan that was read, each change proved and kept or undone."""
    if request.job:
        return await waited(served.jobs.get(request.job), request.wait_s, context)
    if not request.plan_id:
        raise UsageError("no plan is named", fix="perf_plan makes one: pass its plan_id and plan_hash")
    plan = load_plan(request.plan_id, None, served.config)
    if request.plan_hash != brief.plan_hash(plan):
        raise ChangeRefused(
            f"the hash {request.plan_hash or '(none)'} is not that of {plan.id}",
            why="the plan has changed since it was read, or was never read",
            fix="call perf_plan again, read it, and pass its plan_hash",
        )
    approved = await _approved(plan, context)
    asked = ApplyRequest(config=served.config, plan=plan.id, yes=approved, budget=request.budget, no_input=True)
    return await waited(served.jobs.start(f"apply {plan.id}", lambda: api.apply(asked)), request.wait_s, context)


async def rollback(request: UndoRequest, served: Served, context: Context[Any, Any]) -> dict[str, Any]:
    """Undo changes; with ``show`` only say how."""
    del context
    asked = RollbackRequest(config=served.config, change=request.change, all=request.all, show=request.show)
    result = await asyncio.to_thread(api.rollback, asked)
    return dict(result.model_dump(mode="json"))


async def _approved(plan: Plan, context: Context[Any, Any]) -> bool:
    """Whether a person said yes to the changes that ask. A client that cannot ask gets no for an answer: then they are shown and not applied."""
    asking = [change for change in plan.changes if change.safety == Safety.ASK]
    if not asking:
        return False
    if not can_ask(context):
        return False
    listed = "\n".join(f"- {change.title} (risk: {change.risk or 'not stated'}; undo: {'; '.join(change.undo_commands)})" for change in asking)
    answer = await context.elicit(f"perfloop would make these changes on {plan.target_url}:\n{listed}", Approval)
    return answer.action == "accept" and answer.data.approve


def can_ask(context: Context[Any, Any]) -> bool:
    """Whether there is a person behind the client whom it can ask."""
    capabilities = context.client_capabilities
    return capabilities is not None and capabilities.elicitation is not None


async def waited(job: Job, wait_s: float, context: Context[Any, Any]) -> dict[str, Any]:
    """Wait with progress once a second; the state, or the short result when it is over."""
    for second in range(round(wait_s)):
        if await asyncio.to_thread(job.wait, 1.0):
            break
        await context.report_progress(second + 1, None, job.said[-1] if job.said else job.title)
    if job.error is not None:
        raise ToolError(job.error.render())
    return brief.job(job)
