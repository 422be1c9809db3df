"""What the smaller verbs answer; runs answer with a :class:`~perfloop.model.result.RunResult`."""

from __future__ import annotations

from typing import Literal

from perfloop.model.audit import AuditEvent
from perfloop.model.base import SCHEMA_VERSION, Word
from perfloop.model.change import Approval
from perfloop.model.target import Target
from perfloop.model.verdict import Decision, Verdict


class DoctorCheck(Word):
    """One thing that a full run needs: ``ok`` is None where it does not apply here; ``fix`` is the command that closes the gap."""

    name: str
    ok: bool | None
    found: str = ""
    fix: str = ""
    needed_for: str = ""


class DoctorResult(Word):
    """What can be measured and changed here. ``ok`` is False only where nothing can be measured at all."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ok: bool = True
    target: Target | None = None
    checks: tuple[DoctorCheck, ...] = ()
    notes: tuple[str, ...] = ()


class RollbackItem(Word):
    """One change and its undo: ``state`` as in the journal; ``commands`` are what a person would type."""

    change_id: str
    title: str
    state: str
    verified: bool | None = None  # the old value was read back
    commands: tuple[str, ...] = ()
    error: str = ""


class RollbackResult(Word):
    """What was undone, or, with ``show``, what would be. ``ok`` is False where an undo is stuck."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ok: bool = True
    shown_only: bool = False
    items: tuple[RollbackItem, ...] = ()
    health: str = ""  # of the target, after the undo


class StoppedLoad(Word):
    """One process that sent load: ``stopped`` when asked, ``killed`` where it did not listen, ``gone`` before, or ``refused`` by the system."""

    pid: int
    run_id: str = ""
    how: Literal["stopped", "killed", "gone", "refused"] = "stopped"


class StopResult(Word):
    """What the kill switch ended. ``ok`` is False where load still runs."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ok: bool = True
    stopped: tuple[StoppedLoad, ...] = ()


class BaselineItem(Word):
    """A named reference and its run."""

    name: str
    run_id: str
    started_at: str = ""
    target: str = ""


class BaselineResult(Word):
    """All baselines after the request, and what was done."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ok: bool = True
    done: str = ""
    baselines: tuple[BaselineItem, ...] = ()


class RunRow(Word):
    """One stored run, as a list shows it."""

    run_id: str
    kind: str
    started_at: str
    target: str = ""
    state: str = ""
    ok: bool | None = None
    p95_before_ms: float | None = None
    p95_after_ms: float | None = None
    headline: str = ""


class RunsResult(Word):
    """Stored runs, newest first."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ok: bool = True
    runs: tuple[RunRow, ...] = ()


class LogResult(Word):
    """Entries of the audit log, oldest first, and, where asked, what is wrong with its hash chain (empty: nothing)."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ok: bool = True
    entries: tuple[AuditEvent, ...] = ()
    verified: bool = False
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    head: str = ""
    anchor: str = ""
    signature: str = ""  # of the anchor, base64, where a signing key was made
    public_key: str = ""


class ApprovalsResult(Word):
    """All approvals after the request, and what was done."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ok: bool = True
    done: str = ""
    approvals: tuple[Approval, ...] = ()


class InitResult(Word):
    """The configuration that was written."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ok: bool = True
    path: str
    notes: tuple[str, ...] = ()


class HistoryPoint(Word):
    """One run's value of a figure, and the commit that was measured (empty where none was known)."""

    run_id: str
    started_at: str
    revision: str = ""
    value: float


class HistoryChange(Word):
    """A change of level: between ``after_run`` (surely old) and ``by_run`` (surely new), most likely first seen at ``at``. A suspicion, no proof."""

    ratio: float
    p: float
    after_run: HistoryPoint
    at: HistoryPoint
    by_run: HistoryPoint
    worse: bool


class HistorySeries(Word):
    """One figure over the stored runs, oldest first, with its changes of level."""

    metric: str
    unit: str
    points: tuple[HistoryPoint, ...]
    changes: tuple[HistoryChange, ...] = ()


class HistoryResult(Word):
    """What the stored runs of one target and load say. ``ok`` is False where a figure stands at a worse level than before its last change."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ok: bool = True
    target: str = ""
    rate_per_s: float = 0.0
    runs: int = 0
    series: tuple[HistorySeries, ...] = ()
    notes: tuple[str, ...] = ()
    next: str = ""
    verdict: Verdict | None = None  # of both commits side by side, where that was asked for


class ClaimItem(Word):
    """One performance figure of a text: supported (``truth`` says by what), contradicted (``truth`` is the measured value), or without evidence."""

    line: int
    figure: str
    sentence: str
    state: Literal["supported", "contradicted", "without evidence"]
    truth: str = ""
    run_id: str = ""


class ClaimsResult(Word):
    """Every performance figure of a text against the stored runs. ``ok`` is False where one is contradicted or without evidence."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ok: bool = True
    file: str = ""
    runs: tuple[str, ...] = ()
    claims: tuple[ClaimItem, ...] = ()


class BudgetCheck(Word):
    """One budget against its measurement; ``ok`` is None where it was not measured or its interval contains the bound."""

    name: str
    bound: str
    measured: str
    ok: bool | None


class GateResult(Word):
    """Two states of the code, measured interleaved. ``ok`` is False where the candidate is slower, fails, or breaks a budget."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ok: bool = True
    against: str
    candidate: str
    verdict: Verdict
    budgets: tuple[BudgetCheck, ...] = ()
    differing_answers: tuple[str, ...] = ()  # steps whose answers differ between the two, with how
    notes: tuple[str, ...] = ()


class AgentFile(Word):
    """One file of a coding agent's configuration: its text when it is done (None: it goes), and the difference to now."""

    path: str
    text: str | None
    diff: str


class AgentFilesResult(Word):
    """What is written into a project for a coding agent, or taken out; ``left``: files that somebody has edited, which stay."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ok: bool = True
    client: str
    files: tuple[AgentFile, ...] = ()
    left: tuple[str, ...] = ()
    written: bool = False


class AgentRunResult(Word):
    """What the built-in agent came to. ``struck``: figures of its answer that no stored evidence supports, struck out of the text."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ok: bool = True
    state: str  # answered, refused, budget
    answer: str = ""
    struck: tuple[str, ...] = ()
    reason: str = ""
    model: str = ""
    steps: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = None  # in the unit of the prices given
    transcript: str = ""


class CandidateResult(Word):
    """One candidate of ``perfloop try``: what it measured, and what became of it. ``commands``: how to take it, or to take it back."""

    name: str
    decision: Decision
    verdict: Verdict | None = None
    reason: str = ""
    commands: tuple[str, ...] = ()


class TryResult(Word):
    """The candidates, winner first. ``ok`` is False with ``strict`` where none was kept."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ok: bool = True
    against: str
    candidates: tuple[CandidateResult, ...] = ()
    notes: tuple[str, ...] = ()
