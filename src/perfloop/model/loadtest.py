"""A load test of one kind: what was asked of the service, second by second, and the answer of that kind."""

from __future__ import annotations

from enum import StrEnum

from perfloop.model.base import Estimate, Word
from perfloop.model.run import Window
from perfloop.model.verdict import Verdict


class LoadKind(StrEnum):
    """Every kind of performance test of the mission, by the field's names."""

    LOAD = "load"
    STRESS = "stress"
    SPIKE = "spike"
    SOAK = "soak"
    VOLUME = "volume"
    SCALABILITY = "scalability"
    BASELINE = "baseline"
    REGRESSION = "regression"


class Reading(Word):
    """One measured number of the service's processes at one time: ``name`` is memory_bytes, threads, files or connections."""

    at_s: float
    name: str
    value: float


class Level(Word):
    """One level of a series: ``x`` concurrent users, or the size of the data. Several of the same ``x`` are repeats."""

    x: float
    throughput_per_s: float
    mean_s: float | None = None
    p95_s: float | None = None
    error_rate: float = 0.0
    concurrency: float | None = None  # requests in the service at once, by Little's law


class Measure(Word):
    """One line of the answer: a number with its interval, its bound in words, and whether it holds (None: not decided)."""

    name: str
    value: Estimate | None = None
    bound: str = ""
    ok: bool | None = None
    note: str = ""


class HookRun(Word):
    """One run of a hook: set_up, reset or tear_down."""

    name: str
    command: str
    exit_code: int | None
    duration_s: float
    error: str = ""


class ShardReport(Word):
    """One machine's share of a test on many: what it was given, what came back, and what became of it."""

    worker: str
    rate_per_s: float = 0.0
    users: int = 0
    state: str = "done"  # done, lost, taken over
    sent: int = 0
    ok: int = 0
    clock_offset_s: float = 0.0  # its clock minus ours, taken off the start
    clock_error_s: float = 0.0
    started_late_s: float = 0.0
    lateness_p99_s: float = 0.0
    note: str = ""


class LoadTest(Word):
    """The answer of one kind of test. ``ok`` is None where the measurements do not decide; then ``answer`` says what would."""

    kind: LoadKind
    ok: bool | None = None
    answer: str = ""
    measures: tuple[Measure, ...] = ()
    gave_way: tuple[str, ...] = ()  # stress: what broke first, most important first
    levels: tuple[Level, ...] = ()
    windows: tuple[Window, ...] = ()  # each with its seconds
    readings: tuple[Reading, ...] = ()
    verdict: Verdict | None = None  # regression: this run against the baseline
    hooks: tuple[HookRun, ...] = ()
    shards: tuple[ShardReport, ...] = ()
    repeatable: bool = True  # False: requests change data and no reset hook is configured, so two runs of it are not comparable
