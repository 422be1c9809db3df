"""The verbs that work on what is stored: no traffic, nothing changed."""

from __future__ import annotations

from pathlib import Path

from perfloop.change.base import ChangeContext
from perfloop.context.config import LoadedConfig, load_config
from perfloop.diagnose.runner import diagnose as judge
from perfloop.errors import PerfloopError, UsageError
from perfloop.host.secrets import resolve
from perfloop.loop import plugins
from perfloop.loop.propose import candidates, changes_for
from perfloop.model.base import utc_now
from perfloop.model.change import Plan
from perfloop.model.replies import BaselineItem, BaselineResult, LogResult, RunRow, RunsResult
from perfloop.model.requests import BaselineRequest, CompareRequest, DiagnoseRequest, LogRequest, PlanRequest, ReportRequest, RunsRequest
from perfloop.model.result import RunResult
from perfloop.model.verdict import Verdict
from perfloop.store import keys
from perfloop.store.audit import AuditLog
from perfloop.store.catalogs import CatalogStore
from perfloop.store.runs import RunStore
from perfloop.validate.compare import compare_summaries

ANCHORS_MAX = 200
#: other names by which a format may be asked for
FORMAT_NAMES = {"md": "markdown", "txt": "terminal"}


def opened(config: str, cwd: Path | None) -> tuple[LoadedConfig, RunStore]:
    """The configuration and the runs beside it."""
    here = cwd or Path.cwd()
    loaded = load_config(config or None, here)
    return loaded, RunStore(loaded.base_dir if loaded.path else here)


def diagnose(request: DiagnoseRequest, cwd: Path | None) -> RunResult:
    """Judge a run's last evidence by today's rules; the stored run is left as it is."""
    loaded, store = opened(request.config, cwd)
    result = store.load_result(request.run)
    evidence = store.load_evidence(request.run)
    judged: RunResult = result.with_(diagnosis=judge(evidence, loaded.config.rules), diagnosis_after=None, unavailable=evidence.unavailable)
    return judged


def plan(request: PlanRequest, cwd: Path | None) -> Plan:
    """Changes that answer a run's findings (and the configured candidates); saved as the run's plan."""
    loaded, store = opened(request.config, cwd)
    result, evidence = store.load_result(request.run), store.load_evidence(request.run)
    findings = judge(evidence, loaded.config.rules).findings
    if request.finding:
        known = sorted({finding.rule for finding in findings})
        findings = tuple(finding for finding in findings if finding.rule == request.finding)
        if not findings:
            raise UsageError(f"run {result.run_id} has no finding {request.finding!r}", why=f"it has {', '.join(known) or 'none'}", fix="perfloop diagnose")
    kinds = plugins.load("change kind")
    environment = result.target.environment
    context = ChangeContext(
        base_dir=loaded.base_dir, config=loaded.config, resolve=lambda reference: resolve(reference, loaded.base_dir), environment=environment.value
    )
    planned, _ = changes_for(findings, kinds, context, evidence)
    wanted, _ = ([], []) if request.finding else candidates(kinds, context)
    made = Plan(
        id=f"plan-{result.run_id}",
        run_id=result.run_id,
        created_at=utc_now(),
        target_url=result.target.url,
        changes=(*(change for _, change in planned), *wanted),
        expected_gain={change.id: finding.win_back_s for finding, change in planned if finding.win_back_s},
    )
    store.save_plan(made)
    return made


def load_plan(name: str, cwd: Path | None, config: str = "") -> Plan:
    """A saved plan by its id, its run's id, ``last`` or its file."""
    _, store = opened(config, cwd)
    return store.load_plan(name)


def _snapshot(loaded: LoadedConfig, store: RunStore, run_id: str) -> str:
    """The planner's knowledge for a baseline whose run stored none; says so where it cannot be had."""
    reference = loaded.config.target.postgres
    if not reference or any(row.owner == run_id for row in CatalogStore(store.root).rows()):
        return ""
    from perfloop.loop.catalog import store_for_run

    try:
        said = store_for_run(resolve(reference, loaded.base_dir), store, run_id)
    except PerfloopError as error:
        said = f"no catalogue snapshot was stored: {error.what}"
    return f"; {said}" if said else "; with a catalogue snapshot of now"


def baseline(request: BaselineRequest, cwd: Path | None) -> BaselineResult:
    """Name a run, forget a name, or list the names."""
    loaded, store = opened(request.config, cwd)
    done = ""
    if request.drop:
        store.drop_baseline(request.name)
        done = f"dropped {request.name}"
    elif not request.list:
        if store.load_result(request.run).before is None:
            raise UsageError(f"run {request.run} measured nothing", fix="perfloop check URL, then perfloop baseline")
        store.set_baseline(request.name, request.run)
        run_id = store.find(request.run)
        done = f"{request.name} is run {run_id}" + _snapshot(loaded, store, run_id)
    items = [
        BaselineItem(name=name, run_id=row.run_id, started_at=row.created_at, target=row.target_url) for row in store.list_runs(1000) for name in row.baselines
    ]
    return BaselineResult(done=done, baselines=tuple(items))


def compare(request: CompareRequest, cwd: Path | None) -> Verdict:
    """Run B against run A by their last measurement; refuses unlike loads."""
    _, store = opened(request.config, cwd)
    a, b = store.load_result(request.a), store.load_result(request.b)
    first, second = a.after or a.before, b.after or b.before
    if first is None or second is None:
        raise UsageError(f"run {(a if first is None else b).run_id} measured nothing", fix="compare runs of check or improve")
    if {step.name for step in first.steps} != {step.name for step in second.steps}:
        raise UsageError(
            "the two runs sent different requests", why=f"{a.run_id} and {b.run_id} have different steps", fix="compare runs with the same journeys"
        )
    return compare_summaries(first, second)


def report(request: ReportRequest, cwd: Path | None) -> str:
    """A stored run in one format."""
    _, store = opened(request.config, cwd)
    formats = plugins.load("format")
    name = FORMAT_NAMES.get(request.format, request.format)
    if name not in formats:
        raise UsageError(f"there is no format {request.format!r}", why=f"known: {', '.join(sorted(formats))}", fix="perfloop report last --format html")
    return str(formats[name].render(store.load_result(request.run)))


def runs(request: RunsRequest, cwd: Path | None) -> RunsResult:
    """The newest runs with their headline figures."""
    _, store = opened(request.config, cwd)
    rows = []
    for row in store.list_runs(request.limit):
        if row.state == "running" and row.ok is None and not (store.root / "runs" / row.run_id / "run.json").exists():
            continue
        result = store.load_result(row.run_id)
        p95 = [summary.total.p95_s.value * 1000 if summary and summary.total.p95_s else None for summary in (result.before, result.after)]
        first = result.diagnosis.findings[0] if result.diagnosis.findings else None
        rows.append(
            RunRow(
                run_id=row.run_id,
                kind=row.kind,
                started_at=row.created_at,
                target=row.target_url,
                state=row.state,
                ok=row.ok,
                p95_before_ms=p95[0],
                p95_after_ms=p95[1],
                headline=f"{first.rule}: {first.title}" if first else "",
            )
        )
    return RunsResult(runs=tuple(rows))


def log(request: LogRequest, cwd: Path | None) -> LogResult:
    """The newest entries of the machine's audit log, and what is wrong with it; anchors come from the runs that are stored here."""
    audit = AuditLog()
    if request.make_key:
        return LogResult(public_key=keys.make_signing_key(audit.folder.parent), anchor=audit.anchor(), head=audit.head())
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    if request.verify:
        anchors = [*([request.anchor] if request.anchor else []), *_anchors(request.config, cwd)]
        mine = audit.anchor().partition(":")[0]
        others = [anchor for anchor in anchors if anchor.partition(":")[0] != mine]
        problems = audit.verify(anchors)
        notes = (f"{len(anchors) - len(others)} anchors were looked at",)
        if others:
            notes += (f"{len(others)} anchors name another log (key {others[0].partition(':')[0]}): this one cannot answer for it",)
        if request.anchor in others:
            problems += ("the anchor that was given is not of this log: it was replaced, or belongs to another machine or user",)
    signed = audit.signed()
    return LogResult(
        ok=not problems,
        entries=audit.entries(request.limit),
        verified=request.verify,
        problems=problems,
        notes=notes,
        head=audit.head(),
        anchor=audit.anchor(),
        signature=signed.get("signature", ""),
        public_key=signed.get("public_key", ""),
    )


def _anchors(config: str, cwd: Path | None) -> list[str]:
    """What the stored runs of this folder remember of the log's head."""
    _, store = opened(config, cwd)
    stored = [row.run_id for row in store.list_runs(ANCHORS_MAX) if (store.root / "runs" / row.run_id / "run.json").exists()]
    return [anchor for run_id in stored if (anchor := store.load_result(run_id).audit_head).count(":") == 2]
