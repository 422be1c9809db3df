"""One function per verb. Verbs that take time are generators of events whose return value is the result; doors print, stream or thread them."""

from __future__ import annotations

import getpass
from collections.abc import Generator
from pathlib import Path
from typing import NoReturn

from perfloop.loop import (
    approving,
    claims,
    engineer,
    growth,
    knowing,
    loadtest,
    messages,
    metrics,
    opening,
    past,
    running,
    stopping,
    stored,
    trying,
    trying_settings,
    undo,
)
from perfloop.loop import gate as gating
from perfloop.loop import indexes as index_advice
from perfloop.loop import query as query_loop
from perfloop.loop.demo import run_demo
from perfloop.model.advice import IndexesResult
from perfloop.model.change import Plan
from perfloop.model.event import Event
from perfloop.model.messages import PerformanceContext
from perfloop.model.metrics import MetricsDiagnosis
from perfloop.model.query import QueryResult
from perfloop.model.replies import (
    ApprovalsResult,
    BaselineResult,
    ClaimsResult,
    DoctorResult,
    GateResult,
    HistoryResult,
    InitResult,
    LogResult,
    RollbackResult,
    RunsResult,
    StopResult,
    TryResult,
)
from perfloop.model.requests import (
    ApplyRequest,
    ApprovalsRequest,
    BaselineRequest,
    CapacityRequest,
    CheckRequest,
    CompareRequest,
    ContextRequest,
    DemoRequest,
    DiagnoseRequest,
    DoctorRequest,
    ExplainRequest,
    GateRequest,
    HistoryRequest,
    ImproveRequest,
    IndexesRequest,
    InitRequest,
    LoadRequest,
    LogRequest,
    PlanRequest,
    QueryRequest,
    ReportRequest,
    RollbackRequest,
    RunRequest,
    RunsRequest,
    StopRequest,
    TryRequest,
    VerifyClaimsRequest,
)
from perfloop.model.result import RunResult
from perfloop.model.verdict import Verdict


def improve(request: ImproveRequest, cwd: Path | None = None) -> Generator[Event, None, RunResult]:
    """The whole loop: measure, find, change, prove, keep or undo, look again."""
    session = opening.open_session(request, "improve", cwd)
    return (yield from opening.run(session, engineer.improve(session), request.output_dir))


def check(request: CheckRequest, cwd: Path | None = None) -> Generator[Event, None, RunResult]:
    """Measure and diagnose; nothing is changed."""
    session = opening.open_session(request, "check", cwd)
    return (yield from opening.run(session, engineer.check(session), request.output_dir))


def capacity(request: CapacityRequest, cwd: Path | None = None) -> Generator[Event, None, RunResult]:
    """How far the service goes, what ends it, what to add and what that costs; changes nothing."""
    session = opening.open_session(request, "capacity", cwd)
    return (yield from opening.run(session, growth.capacity(session, request), request.output_dir))


def apply(request: ApplyRequest, cwd: Path | None = None) -> Generator[Event, None, RunResult]:
    """Try the changes of a saved plan, each proved, kept or undone."""
    plan_ = approving.planned(request, cwd)
    asked = ImproveRequest(
        config=request.config, url=plan_.target_url, budget=request.budget, yes=request.yes, strict=request.strict, no_input=request.no_input
    )
    session = opening.open_session(asked, "improve", cwd)
    return (yield from opening.run(session, engineer.apply(session, plan_), ""))


def load(request: LoadRequest, cwd: Path | None = None) -> Generator[Event, None, RunResult]:
    """One performance test of a kind, with its own answer."""
    session = opening.open_load(request, cwd)
    return (yield from opening.run(session, loadtest.load(session, request), request.output_dir))


def planned(request: ApplyRequest, cwd: Path | None = None) -> Plan:
    """The plan that apply would apply; refused where a live value has moved since it was made."""
    return approving.planned(request, cwd)


def remember_approval(plan_: Plan, request: ApplyRequest, cwd: Path | None = None) -> None:
    """From now on the kinds of this plan need no further yes on its target."""
    approving.remember(plan_, request, cwd, by=getpass.getuser())


def approvals(request: ApprovalsRequest, cwd: Path | None = None) -> ApprovalsResult:
    """List, give or revoke approvals."""
    return approving.approvals(request, cwd)


def demo(request: DemoRequest, cwd: Path | None = None) -> Generator[Event, None, RunResult]:
    """Start an installed demo service and run the whole loop on it."""
    return (yield from run_demo(request, improve, cwd))


def doctor(request: DoctorRequest, cwd: Path | None = None) -> DoctorResult:
    """What can be measured and changed here, with the command that closes each gap."""
    return knowing.doctor(request, cwd)


def diagnose(request: DiagnoseRequest, cwd: Path | None = None) -> RunResult:
    """Judge a run's stored evidence again; no traffic."""
    return stored.diagnose(request, cwd)


def diagnose_metrics(request: DiagnoseRequest, cwd: Path | None = None) -> MetricsDiagnosis:
    """Ranked causes from CSV files of metrics; no traffic, and no run is needed."""
    return metrics.diagnose_metrics(request, cwd)


def plan(request: PlanRequest, cwd: Path | None = None) -> Plan:
    """Changes that answer a run's findings, saved; applies nothing."""
    return stored.plan(request, cwd)


def query(request: QueryRequest, cwd: Path | None = None) -> Generator[Event, None, QueryResult]:
    """Look at one query: why it is slow, or slower than it was, and the fix."""
    return (yield from query_loop.query(request, cwd))


def indexes(request: IndexesRequest, cwd: Path | None = None) -> Generator[Event, None, IndexesResult]:
    """Which indexes a workload wants and which it does not need; changes nothing."""
    return (yield from index_advice.advise(request, cwd))


def run(request: RunRequest) -> NoReturn:
    """Become a service's command, with counters inside."""
    running.run(request)


def rollback(request: RollbackRequest, cwd: Path | None = None) -> RollbackResult:
    """Undo what is open, kept or stuck; with ``show``, print the commands only."""
    return undo.rollback(request, cwd)


def stop(request: StopRequest) -> StopResult:
    """End the load of a run, or all load of this machine, at once."""
    return stopping.stop(request)


def baseline(request: BaselineRequest, cwd: Path | None = None) -> BaselineResult:
    """Keep a run as a named reference, list them, or drop one."""
    return stored.baseline(request, cwd)


def compare(request: CompareRequest, cwd: Path | None = None) -> Verdict:
    """Run B against run A; a stored run raises suspicion, it does not prove."""
    return stored.compare(request, cwd)


def report(request: ReportRequest, cwd: Path | None = None) -> str:
    """A stored run in one of the formats."""
    return stored.report(request, cwd)


def runs(request: RunsRequest, cwd: Path | None = None) -> RunsResult:
    """The stored runs, newest first."""
    return stored.runs(request, cwd)


def gate(request: GateRequest, cwd: Path | None = None) -> Generator[Event, None, GateResult]:
    """Measure two states of the code interleaved, and judge the newer one."""
    return (yield from gating.gate(request, cwd))


def try_code(request: TryRequest, cwd: Path | None = None) -> Generator[Event, None, TryResult]:
    """Race candidates of code against the committed state, or try settings on the running service; what is proved to help is kept."""
    if request.set or request.sql or request.tune:
        return (yield from trying_settings.try_settings(request, cwd))
    return (yield from trying.try_code(request, cwd))


def history(request: HistoryRequest, cwd: Path | None = None) -> HistoryResult:
    """Where the stored runs' figures moved to another level; a suspicion that a comparison of the two commits can prove."""
    return past.history(request, cwd)


def confirm_history(request: HistoryRequest, found: HistoryResult, cwd: Path | None = None) -> Generator[Event, None, HistoryResult]:
    """Measure both commits of a history's newest change for the worse side by side."""
    return (yield from past.confirm(request, found, cwd))


def verify_claims(request: VerifyClaimsRequest, cwd: Path | None = None) -> ClaimsResult:
    """Each performance figure of a text: supported, contradicted, or without evidence."""
    return claims.verify_claims(request, cwd)


def log(request: LogRequest, cwd: Path | None = None) -> LogResult:
    """The audit log, or the check of its hash chain."""
    return stored.log(request, cwd)


def context(request: ContextRequest, cwd: Path | None = None) -> PerformanceContext:
    """What is configured, discovered and measured, for another agent; what it states is kept with its source."""
    return messages.context(request, cwd)


def explain(request: ExplainRequest, cwd: Path | None = None) -> str:
    """The page of a rule, a change kind or an exit code."""
    return knowing.explain(request, cwd)


def init(request: InitRequest, cwd: Path | None = None) -> InitResult:
    """Write a perfloop.toml from what can be discovered."""
    return knowing.init(request, cwd)
