"""The tools: each takes the fields of a request model, calls the api, and answers with one object."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field, ValidationError

from perfloop import api
from perfloop.errors import PerfloopError
from perfloop.mcp import brief
from perfloop.model.requests import CompareRequest, DiagnoseRequest, Door, PlanRequest, ReportRequest, Request, RunsRequest
from perfloop.model.result import RunResult
from perfloop.model.wording import reason


class ContextRequest(Request):
    """What an agent asks first."""

    run: str = Field(default="last", description="A run: its id, last, or baseline:NAME.", max_length=200)


class DiagnosisRequest(DiagnoseRequest):
    """A diagnosis, short or whole."""

    detail: Literal["brief", "full"] = Field(default="brief", description="brief: the first findings; full: all of them, with every field.")


@dataclass(frozen=True)
class Tool:
    """One tool: its name, what an agent reads about it, the model of its arguments, what it does, and whether it writes nothing at all."""

    name: str
    text: str
    model: type[Request]
    answer: Callable[[Any], dict[str, Any]]
    read_only: bool = True


def _context(request: ContextRequest) -> dict[str, Any]:
    text = api.report(ReportRequest(config=request.config, run=request.run, format="json"))
    return brief.context(_result(text))


def _result(text: str) -> RunResult:
    return RunResult.model_validate_json(text)


def _runs(request: RunsRequest) -> dict[str, Any]:
    return api.runs(request).model_dump(mode="json")


def _diagnose(request: DiagnosisRequest) -> dict[str, Any]:
    return brief.diagnosis(api.diagnose(DiagnoseRequest(config=request.config, run=request.run)), full=request.detail == "full")


def _compare(request: CompareRequest) -> dict[str, Any]:
    return api.compare(request).model_dump(mode="json")


def _plan(request: PlanRequest) -> dict[str, Any]:
    return brief.plan(api.plan(request))


TOOLS = (
    Tool(
        "perf_context",
        "Performance context of the service that was measured last: what runs, what it talks to, SLOs, latencies with intervals, the load, pain points, and the highest rate it keeps. "
        "Use it first. Reads stored runs only: no traffic, no change. Next: perf_diagnose.",
        ContextRequest,
        _context,
    ),
    Tool("perf_runs", "The stored runs, newest first, with their ids. Use it to find two runs for perf_compare. Reads only.", RunsRequest, _runs),
    Tool(
        "perf_diagnose",
        "The causes of slowness in one stored run, most time to win back first, each with evidence, place (file and line, or query), fix, and what would disprove it. "
        "Rules are run again on stored evidence: no traffic. A confidence of possible is a suspicion, not a cause. Next: perf_plan.",
        DiagnosisRequest,
        _diagnose,
    ),
    Tool(
        "perf_compare",
        "Whether run b is better or worse than run a: improved, regressed, equivalent, inconclusive or invalid, with ratio and interval. Two stored runs raise a suspicion, they do not prove a change. Reads only.",
        CompareRequest,
        _compare,
    ),
    Tool(
        "perf_plan",
        "Changes that answer a run's findings, each with diff, risk, reach, undo and expected gain. Saves the plan beside the run and applies nothing; a person applies it with perfloop apply. "
        "Code changes are shown for you to write.",
        PlanRequest,
        _plan,
        read_only=False,
    ),
)


def function(tool: Tool, config: str) -> Callable[..., dict[str, Any]]:
    """A callable whose signature is the request model's fields; house errors become tool errors with what, why and fix."""
    fields = {key: field for key, field in tool.model.model_fields.items() if not _hidden(field.metadata)}

    def call(**values: Any) -> dict[str, Any]:
        try:
            return tool.answer(tool.model.model_validate({**values, "config": config}))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ToolError(f"invalid value for {'.'.join(map(str, first['loc']))}: {reason(first)}") from None
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
    call.__signature__ = inspect.Signature(parameters, return_annotation=dict[str, Any])  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": dict[str, Any]}
    call.__name__ = tool.name
    return call


def _hidden(metadata: list[Any]) -> bool:
    return any(isinstance(item, Door) and item.hidden for item in metadata)
