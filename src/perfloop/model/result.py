"""The one result of a run: everything a format renders, nothing a format computes."""

from __future__ import annotations

from typing import Any, Literal

from perfloop.model.base import SCHEMA_VERSION, Estimate, Word
from perfloop.model.breakdown import Breakdown
from perfloop.model.capacity import Capacity, CapacityPlan
from perfloop.model.change import Change
from perfloop.model.evidence import ExperimentResult, Unavailable
from perfloop.model.finding import Diagnosis
from perfloop.model.journey import Journeys
from perfloop.model.loadtest import LoadTest
from perfloop.model.run import RateSearch, Summary, Window
from perfloop.model.target import Target
from perfloop.model.verdict import Decision, Verdict


class Slo(Word):
    """What the service promises; None where nothing is promised."""

    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    error_rate_max: float | None = None


class SloCheck(Word):
    """One promise against its measurement."""

    name: str
    bound: float
    measured: float | None
    unit: str
    ok: bool | None


class Tried(Word):
    """One change and what became of it, with the proof."""

    change: Change
    decision: Decision
    verdict: Verdict | None = None
    reason: str = ""
    health_after_undo: str = ""


class FlameNode(Word):
    """A node of a flame graph: inclusive seconds (or samples) and its children."""

    name: str
    value: float
    file: str = ""
    line: int = 0
    children: tuple[FlameNode, ...] = ()


class FlameChange(Word):
    """A node of a differential flame graph: thread seconds per request before and after, and the interval of the difference (95 %, from the numbers of samples)."""

    name: str
    before_s: float
    after_s: float
    low_s: float
    high_s: float
    file: str = ""
    line: int = 0
    children: tuple[FlameChange, ...] = ()

    @property
    def proven(self) -> bool:
        """True where the interval leaves no doubt that it changed."""
        return self.low_s > 0 or self.high_s < 0


class ChecklistItem(Word):
    """One line of the mission's checklists, answered from evidence."""

    name: str
    state: Literal["done", "not done", "unknown"]
    evidence: str = ""


class RunResult(Word):
    """What ``run.json`` holds. ``kind`` is the verb; fields that a verb does not produce stay empty."""

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Literal["improve", "check", "baseline", "compare", "load", "capacity"]
    run_id: str
    started_at: str
    ended_at: str = ""
    duration_s: float = 0.0
    state: Literal["running", "done", "interrupted", "failed"] = "running"
    ok: bool = True
    target: Target
    journeys: Journeys | None = None
    rate_per_s: float = 0.0
    slo: Slo = Slo()
    slo_checks: tuple[SloCheck, ...] = ()
    before: Summary | None = None
    after: Summary | None = None
    before_windows: tuple[Window, ...] = ()
    after_windows: tuple[Window, ...] = ()
    throughput_before: RateSearch | None = None
    throughput_after: RateSearch | None = None
    diagnosis: Diagnosis = Diagnosis()  # the first look
    diagnosis_after: Diagnosis | None = None  # the last look
    breakdown: tuple[Breakdown, ...] = ()  # where the time of each endpoint goes, at the first look
    breakdown_after: tuple[Breakdown, ...] = ()  # and at the last
    experiments: tuple[ExperimentResult, ...] = ()
    tried: tuple[Tried, ...] = ()
    flame_before: FlameNode | None = None
    flame_after: FlameNode | None = None
    flame_change: FlameChange | None = None  # from the first look to the last
    capacity: Capacity | None = None
    capacity_plan: CapacityPlan | None = None
    load_test: LoadTest | None = None
    unavailable: tuple[Unavailable, ...] = ()
    improvement: dict[str, Estimate] = {}  # only what was measured: response_time, throughput, cpu_per_request
    progress: dict[str, Any] = {}  # the progress message of mission §10
    delivery_notice: str = ""
    checklist: tuple[ChecklistItem, ...] = ()
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()  # to run by hand, where an undo is stuck
    audit_head: str = ""  # hash of the last audit line when this was written
