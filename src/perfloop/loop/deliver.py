"""The end of a run: the load again, what was gained, the checklist, the notice, the files."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Literal

from perfloop.capacity.usl import fit
from perfloop.load.summary import summarize
from perfloop.loop import plugins
from perfloop.loop.prepare import Session, deliver_load
from perfloop.model.base import Estimate, utc_now
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.result import RunResult
from perfloop.model.verdict import Decision, VerdictStatus
from perfloop.report.checklist import checklist
from perfloop.report.notice import delivery_notice, progress
from perfloop.validate.before_after import compare_summaries, ratio_of
from perfloop.validate.slo import check_slo

WINDOWS_AFTER_MIN = 3


def measure_after(session: Session) -> Generator[Event, None, None]:
    """The same load as the baseline, and the highest rate that keeps the SLO, now; only where something was kept."""
    if not any(tried.decision == Decision.KEPT for tried in session.result.tried):
        return
    meter, measure = session.meter, session.config.measure
    count = max(WINDOWS_AFTER_MIN, min(measure.windows, int(meter.left_s // (measure.window_s + 1))))
    yield PhaseStarted(phase="after", detail=f"{count} windows of {measure.window_s:g} s, as in the baseline", left_s=meter.left_s)
    operation = session.audit.begin(
        operation="load_test",
        command=f"open load {session.result.rate_per_s:g}/s on {meter.target.url}",
        resources=(f"service:{meter.target.url}",),
        run_id=session.result.run_id,
    )
    try:
        windows = yield from meter.series("after", session.result.rate_per_s, count, measure.window_s, first_seed=1)
    except BaseException as error:
        session.audit.end(operation, "failure", error_detail=str(error) or type(error).__name__)
        raise
    session.audit.end(operation, "success", load_test_results=deliver_load(windows))
    session.put(after=summarize("after", windows), after_windows=tuple(windows))
    if session.result.throughput_before is not None:
        yield from measure_throughput(session, "throughput after")


def measure_throughput(session: Session, phase: str) -> Generator[Event, None, None]:
    """The highest rate that keeps the SLO, by measured probes; nothing where no latency is promised or it is switched off."""
    meter, slo = session.meter, session.result.slo
    if not session.config.measure.throughput or slo.latency_p95_ms is None:
        return
    yield PhaseStarted(phase=phase, detail="the highest rate that keeps the SLO", left_s=meter.left_s)
    before = session.result.throughput_before
    start = before.rate_per_s if before and before.rate_per_s else session.result.rate_per_s
    found = yield from meter.search(phase, slo, start)
    session.put(**({"throughput_before": found} if before is None else {"throughput_after": found}))
    if found.rate_per_s is not None:
        yield Told(text=f"{phase}: {found.rate_per_s:.0f} requests/s keep the SLO" + ("" if found.bounded else " (the end was not reached)"))


def finish(session: Session, state: Literal["done", "interrupted", "failed"]) -> RunResult:
    """Fill in what follows from the measurements, write run.json and the reports, and return the result."""
    result = session.result
    last = result.after or result.before
    checks = check_slo(result.slo, last) if last else ()
    gained = improvement(result)
    points = session.meter.points if hasattr(session, "meter") else []
    session.put(
        state=state,
        ended_at=utc_now(),
        duration_s=round(time.monotonic() - session.started, 1),
        slo_checks=checks,
        improvement=gained,
        capacity=fit(points) if points else result.capacity,
        ok=result.ok and not result.commands and all(check.ok is not False for check in checks),
        audit_head=session.audit.anchor(),
    )
    session.put(progress=progress(session.result), delivery_notice=delivery_notice(session.result), checklist=checklist(session.result))
    write_reports(session)
    return session.result


def improvement(result: RunResult) -> dict[str, Estimate]:
    """Relative gains (0.68 = 68 %) whose interval excludes zero; anything else is left out."""
    gains: dict[str, Estimate] = {}
    if result.before is None or result.after is None:
        return gains
    verdict = compare_summaries(result.before, result.after)
    if verdict.status == VerdictStatus.IMPROVED and verdict.ratio is not None:
        gains["response_time"] = _gain(verdict.ratio, "p95 of all requests, after against before")
    cpu = ratio_of(result.before_windows, result.after_windows, "cpu_per_request")
    if cpu is not None and cpu.high is not None and cpu.high < 1:
        gains["cpu_per_request"] = _gain(cpu, "CPU seconds of the service's own processes per request, after against before")
    return gains


def _gain(ratio: Estimate, source: str) -> Estimate:
    low = None if ratio.high is None else 1 - ratio.high
    high = None if ratio.low is None else 1 - ratio.low
    return Estimate(value=1 - ratio.value, low=low, high=high, n=ratio.n, confidence=ratio.confidence, source=source)


def write_reports(session: Session) -> None:
    """report.html and report.md beside run.json."""
    formats = plugins.load("format")
    for name in ("html", "markdown"):
        if name in formats:
            module = formats[name]
            session.store.save_file(session.result.run_id, f"report.{module.EXTENSION}", module.render(session.result).encode())
