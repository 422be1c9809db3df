"""Before anything is judged: configuration, policy, a place to write, recovery, the target, its journeys, and the baseline."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perfloop.context.discover import discover
from perfloop.context.limits import Policy
from perfloop.errors import CannotMeasure, PerfloopError, UsageError
from perfloop.host.http import fetch
from perfloop.host.secrets import resolve
from perfloop.load.importers.access_log import journeys_from_log
from perfloop.load.importers.document import is_yaml, read_document
from perfloop.load.importers.openapi import journeys_from_openapi
from perfloop.load.journeys import journeys_from_config
from perfloop.load.summary import summarize
from perfloop.loop import stores, traces
from perfloop.loop.measure import Meter, refuse_broken
from perfloop.loop.sweep import parameters_of
from perfloop.model.change import Change
from perfloop.model.config import Config
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Finding
from perfloop.model.journey import Journeys, Step
from perfloop.model.limits import is_store
from perfloop.model.result import RunResult
from perfloop.model.run import Window
from perfloop.report.flame_change import Sampled
from perfloop.store.audit import AuditLog
from perfloop.store.journal import Journal
from perfloop.store.runs import RunStore

LOG_LINES_MAX = 200_000
OPENAPI_PATHS = ("/openapi.json", "/swagger.json", "/api/openapi.json", "/v3/api-docs", "/openapi.yaml")


@dataclass
class Session:
    """One run: what was asked, the stores, and what is known so far. ``result`` is the truth that is saved and rendered."""

    config: Config
    base_dir: Path
    store: RunStore
    journal: Journal
    audit: AuditLog
    policy: Policy
    result: RunResult
    deadline: float
    meter: Meter = field(init=False)
    evidence: Evidence = field(init=False)
    baseline: list[Window] = field(default_factory=list)
    queue: list[tuple[Finding | None, Change]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)  # changes tried or shown, by what they would do
    looks: int = 0
    first_look: Sampled | None = None  # the flame graph of the first look, to tell what changed since
    connections_max: int | None = None  # of the database, where it was seen
    parameters: dict[str, dict[str, int]] = field(default_factory=dict)  # integer query parameters of each step, from the OpenAPI document
    started: float = field(default_factory=time.monotonic)

    def put(self, **changes: object) -> None:
        """Replace fields of the result and save it, so that a stop at any time keeps what is known."""
        self.result = self.result.with_(**changes)
        self.store.save_result(self.result)

    def note(self, *texts: str) -> None:
        """Add what the reader must know to the result, each once."""
        new = tuple(text for text in texts if text not in self.result.notes)
        if new:
            self.put(notes=self.result.notes + new)


def understand(session: Session) -> Generator[Event, None, None]:
    """URL → process → runtime, framework, what it talks to; then the journeys."""
    if is_store(session.config.target.url):
        meter, asked, notes = yield from stores.known(session.config, session.base_dir, session.policy.environment, session.deadline, session.result.run_id)
        session.meter = meter
        session.put(target=meter.target, journeys=asked, state="running")
        session.note(*session.policy.notes, *meter.target.unknown, *notes)
        return
    traces.listen(session.config)
    yield PhaseStarted(phase="understand", detail=session.config.target.url, left_s=session.deadline - time.monotonic())
    target = discover(session.config, session.base_dir)
    headers = tuple((name, _header(value, session.base_dir)) for name, value in session.config.target.headers.items())
    journeys = _journeys(session, headers)
    session.meter = Meter(session.config, target, journeys.steps, headers, session.deadline, journeys.journeys, session.result.run_id)
    session.put(target=target, journeys=journeys, state="running")
    session.note(*session.policy.notes, *target.unknown)
    if target.processes:
        first = target.processes[0]
        yield Told(text=f"{target.url} is process {first.pid}: {' '.join(x for x in (first.runtime, first.runtime_version, first.framework) if x)}")
    yield Told(text=f"{len(journeys.steps) + len(journeys.journeys)} kinds of request, from the {journeys.source}")
    yield from _pinning(session)


def snapshot(session: Session) -> None:
    """Keep what the database's planner knows now, so that ``perfloop query --was`` can ask it later; a note where that was not possible."""
    reference = session.config.target.postgres
    if not reference:
        return
    from perfloop.loop.catalog import store_for_run

    try:
        said = store_for_run(resolve(reference, session.base_dir), session.store, session.result.run_id)
    except PerfloopError as error:
        said = f"no catalogue snapshot was stored: {error.what}"
    if said:
        session.note(said)


def baseline(session: Session) -> Generator[Event, None, None]:
    """The rate, a warm-up, then several windows of open load; their spread is the noise."""
    meter, measure = session.meter, session.config.measure
    rate = measure.rate_per_s
    if rate is None:
        knee = yield from meter.knee()
        if knee.rate_per_s is None:
            raise CannotMeasure(
                "no rate could be found that the service keeps up with",
                why="the lowest probe already failed",
                fix="set measure.rate_per_s, and look at the service's errors",
            )
        rate = max(0.5, knee.rate_per_s / 2)
        yield Told(text=f"the knee is at {knee.rate_per_s:.0f} requests/s: measuring at half of it, {rate:.0f}")
    if rate > session.config.limits.rate_max_per_s:
        raise UsageError(f"measure.rate_per_s is {rate:g}, above limits.rate_max_per_s = {session.config.limits.rate_max_per_s:g}")
    yield PhaseStarted(
        phase="baseline", detail=f"{measure.windows} windows of {measure.window_s:g} s at {rate:g} requests/s, open arrivals", left_s=meter.left_s
    )
    operation = session.audit.begin(
        operation="load_test", command=f"open load {rate:g}/s on {meter.target.url}", resources=(f"service:{meter.target.url}",), run_id=session.result.run_id
    )
    try:
        if measure.warmup_s:
            warm = yield from meter.window("warm-up", rate, measure.warmup_s, seed=0)
            refuse_broken(warm)
        meter.target = discover(session.config, session.base_dir)  # its pools have connected by now
        windows = yield from meter.series("baseline", rate, measure.windows, measure.window_s, first_seed=1)
    except BaseException as error:
        session.audit.end(operation, "failure", error_detail=str(error) or type(error).__name__)
        raise
    summary = summarize("baseline", windows)
    session.audit.end(operation, "success", load_test_results=deliver_load(windows))
    session.baseline = windows
    session.put(target=meter.target, rate_per_s=rate, before=summary, before_windows=tuple(windows))
    if not summary.generator_ok:
        raise CannotMeasure(
            "the generator was the bottleneck, so there is no verdict",
            why=f"it sent late by {summary.lateness_p99_s * 1000:.1f} ms at p99",
            fix="lower measure.rate_per_s, or give the generator a core of its own (pin the service with taskset)",
        )
    p95 = summary.total.p95_s
    if p95 is not None:
        spread = f", {p95.low * 1000:.0f}–{p95.high * 1000:.0f}" if p95.low is not None and p95.high is not None else ""
        yield Told(text=f"baseline p95 {p95.value * 1000:.0f} ms{spread} over {summary.windows} windows, {error_text_of(windows)}")


def deliver_load(windows: list[Window]) -> dict[str, object]:
    """The load-test figures of the audit format, from merged histograms."""
    total = summarize("load", windows).total
    ms = {name: round(est.value * 1000, 1) if est else None for name, est in (("p50", total.p50_s), ("p95", total.p95_s), ("p99", total.p99_s))}
    return {
        "requests_total": total.sent,
        "requests_failed": total.sent - total.ok,
        **{f"{name}_latency_ms": value for name, value in ms.items()},
    }


def error_text_of(windows: list[Window]) -> str:
    """The errors of all windows together."""
    failed = sum(step.sent - step.ok for window in windows for step in window.steps)
    sent = sum(step.sent for window in windows for step in window.steps)
    return f"{failed} of {sent} requests failed" if failed else f"no error in {sent} requests"


def _header(value: str, base_dir: Path) -> str:
    return resolve(value, base_dir) if value.startswith(("env:", "file:")) else value


def _journeys(session: Session, headers: tuple[tuple[str, str], ...]) -> Journeys:
    """From the configuration, else an access log, else the service's OpenAPI document, else the URL itself; the document's size parameters are noted for experiments."""
    config = session.config
    document = _openapi(session, headers)
    journeys: Journeys | None = None
    if config.journeys:
        journeys = journeys_from_config(config.journeys, session.base_dir)
    elif config.target.access_log:
        path = session.base_dir / config.target.access_log
        if not path.is_file():
            raise UsageError(f"target.access_log = {config.target.access_log} is not a file", fix="give a path relative to the configuration")
        with path.open(errors="replace") as lines:
            journeys = journeys_from_log(lines, LOG_LINES_MAX)
    elif document is not None:
        journeys = journeys_from_openapi(document)
    if journeys is None:
        journeys = Journeys(steps=(Step(name="GET /", paths=("/",)),), source="URL: there are no journeys, access log or OpenAPI document")
    session.parameters = {name: dict(known) for name, known in parameters_of(document, journeys.steps).items()} if document else {}
    return journeys


def _openapi(session: Session, headers: tuple[tuple[str, str], ...]) -> dict[str, Any] | None:
    """The service's OpenAPI document, from the configured path or the usual ones; None where there is none."""
    target = session.config.target
    for path in (target.openapi,) if target.openapi else OPENAPI_PATHS:
        try:
            response = fetch(target.url.rstrip("/") + path, headers=headers, ca_file=target.ca_file)
        except CannotMeasure:
            if target.openapi:
                raise
            return None  # the document is a help, not a need
        if response.status == 200:
            try:
                document = read_document(response.body.decode(errors="replace"), path, is_yaml(path) or "yaml" in response.header("content-type"))
            except UsageError:
                continue
            if "paths" in document:
                return document
    if target.openapi:
        raise CannotMeasure(f"there is no OpenAPI document at {target.openapi}", fix="correct target.openapi, or write [[journeys]]")
    return None


def _pinning(session: Session) -> Generator[Event, None, None]:
    cpu = session.meter.generator_cpu
    if cpu is None and session.meter.target.local:
        text = "load and service share their cores: pin the service (taskset) for steadier figures"
        session.note(text)
        yield Told(level="warning", text=text)
    elif cpu is not None:
        session.note(f"the generator was pinned to core {cpu}, which the service does not use")
