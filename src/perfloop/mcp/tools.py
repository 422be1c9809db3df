"""The tools: each takes the fields of a request model, calls the api, and answers with one object."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field, ValidationError

from perfloop import api
from perfloop.errors import PerfloopError
from perfloop.mcp import brief, growing, live
from perfloop.mcp.live import Served
from perfloop.model.requests import CompareRequest, DiagnoseRequest, Door, PlanRequest, ReportRequest, Request, RunsRequest
from perfloop.model.result import RunResult
from perfloop.model.wording import reason


class ContextRequest(Request):
    """What an agent asks first."""

    run: str = Field(default="last", description="A run: its id, last, or baseline:NAME.", max_length=200)
    runs: int = Field(default=5, ge=0, le=50, description="How many stored runs to list.")


class DiagnosisRequest(DiagnoseRequest):
    """A diagnosis, short or whole."""

    detail: Literal["brief", "full"] = Field(default="brief", description="brief: the first findings; full: all of them, with every field.")


@dataclass(frozen=True)
class Tool:
    """One tool: its name, what an agent reads about it, the model of its arguments, and what it does: ``answer`` from what is stored, or ``act``.

    ``changes``: it can change the target, so that it is offered only where changes are allowed.
    """

    name: str
    text: str
    model: type[Request]
    answer: Callable[[Any], dict[str, Any]] | None = None
    act: Callable[[Any, Served, Any], Awaitable[dict[str, Any]]] | None = None
    read_only: bool = True
    changes: bool = False
    destructive: bool = False
    idempotent: bool = True


def _context(request: ContextRequest) -> dict[str, Any]:
    rows = api.runs(RunsRequest(config=request.config, limit=max(1, request.runs))).runs[: request.runs]
    listed = [
        {"run_id": row.run_id, "kind": row.kind, "state": row.state, "p95_ms": row.p95_after_ms or row.p95_before_ms, "first": row.headline} for row in rows
    ]
    if not listed and request.run == "last":
        return {"runs": [], "next": "nothing is measured yet: perf_measure with the service's url"}
    result = RunResult.model_validate_json(api.report(ReportRequest(config=request.config, run=request.run, format="json")))
    return brief.context(result) | {"runs": listed}


def _diagnose(request: DiagnosisRequest) -> dict[str, Any]:
    if request.metric_files:
        return api.diagnose_metrics(request).model_dump(mode="json")
    return brief.diagnosis(api.diagnose(DiagnoseRequest(config=request.config, run=request.run)), full=request.detail == "full")


def _compare(request: CompareRequest) -> dict[str, Any]:
    return api.compare(request).model_dump(mode="json")


def _plan(request: PlanRequest) -> dict[str, Any]:
    return brief.plan(api.plan(request))


TOOLS = (
    Tool(
        "perf_context",
        "Performance context of the service that was measured last: what runs, what it talks to, SLOs, latencies with intervals, the load, pain points, the highest rate it keeps, "
        "and the newest stored runs. Use it first, and to find run ids. Reads stored runs only: no traffic, no change. Next: perf_measure, or perf_diagnose.",
        ContextRequest,
        _context,
    ),
    Tool(
        "perf_measure",
        "Measures a running service under open load and diagnoses it. Use it before you claim anything about speed, and again after a change of yours. Not for addresses that the configuration does not allow. "
        "Sends traffic for about half a minute to a few minutes and changes nothing. Returns the result, or a job to ask for again (job, wait_s 45). Next: perf_diagnose.",
        live.MeasureRequest,
        act=live.measure,
        read_only=False,
        idempotent=False,
    ),
    Tool(
        "perf_diagnose",
        "The causes of slowness in one stored run, most time to win back first, each with evidence, place (file and line, or query), fix, and what would disprove it. "
        "With metrics (one or two CSV files, a column a metric) it ranks the causes of a change in them instead. Rules are run again on stored evidence: no traffic. A confidence of possible is a suspicion, not a cause. Next: perf_plan.",
        DiagnosisRequest,
        _diagnose,
    ),
    Tool(
        "perf_query",
        "Why one SQL query is slow, or slower than it was: its plan, where its time goes, the causes by trying one difference at a time in a planner twin, and fixes tried there. "
        "Use it for a single slow statement. The database is read by a role that can only read; the query runs a few times within 30 s (no_run plans only). Changes nothing.",
        live.AskQueryRequest,
        act=live.query,
        read_only=False,
        idempotent=True,
    ),
    Tool(
        "perf_compare",
        "Whether run b is better or worse than run a: improved, regressed, equivalent, inconclusive or invalid, with ratio and interval. Two stored runs raise a suspicion, they do not prove a change. Reads only.",
        CompareRequest,
        _compare,
    ),
    Tool(
        "perf_plan",
        "Changes that answer a run's findings, each with diff, risk, reach, undo and expected gain, and the plan's hash. Saves the plan beside the run and applies nothing. "
        "Code changes are shown for you to write. Next: perf_apply, where it is offered; else a person applies it.",
        PlanRequest,
        _plan,
        read_only=False,
    ),
    Tool(
        "perf_capacity",
        "How far the service goes: the highest rate under the SLO, what saturates first, second, third and at what rate, what to add for a growth and what it costs. "
        "Use it for growth and sizing, not to find a slow endpoint. Sends traffic up to the service's end (gentle, and always in production: 40 %) for two to four minutes; changes nothing. "
        "Returns a job to ask for again (job, wait_s 45). Next: the report's resource.",
        growing.AskCapacityRequest,
        act=growing.capacity,
        read_only=False,
        idempotent=False,
    ),
    Tool(
        "perf_try",
        "Proves candidates under load: patches or branches race against the committed state, or settings are tried on the running service. What is proved to help is kept "
        "(a patch as a commit on a branch of its own, nothing is merged), the rest is put back. Use it instead of claiming that your change is faster. Takes minutes; returns a job (job, wait_s 45).",
        growing.AskTryRequest,
        act=growing.trial,
        read_only=False,
        changes=True,
        destructive=True,
        idempotent=False,
    ),
    Tool(
        "perf_apply",
        "Applies a plan that you have read (plan_id and plan_hash): each change is journalled, applied, proved by switching it on and off under load, and kept or undone. "
        "Takes minutes; returns a job to ask for again (job, wait_s 45). Changes that ask are put to a person; without one they are shown only. Next: perf_rollback undoes.",
        live.ApplyPlanRequest,
        act=live.apply,
        read_only=False,
        changes=True,
        destructive=True,
        idempotent=False,
    ),
    Tool(
        "perf_rollback",
        "Undoes a change by its id (or what is open), reads the old value back, and checks the service's health. With show it only prints the commands. Safe to repeat.",
        live.UndoRequest,
        act=live.rollback,
        read_only=False,
        changes=True,
    ),
)


def offered(served: Served) -> tuple[Tool, ...]:
    """The tools of a server: those that change the target only where that is allowed."""
    return tuple(tool for tool in TOOLS if served.allow_changes or not tool.changes)


def function(tool: Tool, served: Served) -> Callable[..., Any]:
    """A callable whose signature is the request model's fields; house errors become tool errors with what, why and fix."""
    fields = {key: field for key, field in tool.model.model_fields.items() if not _hidden(field.metadata)}

    def asked(values: dict[str, Any]) -> Any:
        try:
            return tool.model.model_validate({**values, "config": served.config})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ToolError(f"invalid value for {'.'.join(map(str, first['loc']))}: {reason(first)}") from None

    async def call(**values: Any) -> dict[str, Any]:
        context = values.pop("context", None)
        try:
            if tool.act:
                return await tool.act(asked(values), served, context)
            assert tool.answer
            return await asyncio.to_thread(tool.answer, asked(values))
        except PerfloopError as error:
            raise ToolError(error.render()) from error

    parameters = [
        inspect.Parameter(
            key,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.is_required() else field.default,
            annotation=Annotated[(field.annotation, *(item for item in field.metadata if not isinstance(item, Door)), Field(description=field.description))],
        )
        for key, field in fields.items()
    ]
    if tool.act:
        parameters.append(inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=Context))
    call.__signature__ = inspect.Signature(parameters, return_annotation=dict[str, Any])  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": dict[str, Any]}
    call.__name__ = tool.name
    return call


def _hidden(metadata: list[Any]) -> bool:
    return any(isinstance(item, Door) and item.hidden for item in metadata)
