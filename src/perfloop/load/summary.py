"""Several windows of the same load as one summary: percentiles from merged histograms, intervals from the windows."""

from __future__ import annotations

from collections.abc import Sequence

from perfloop.load.merge import merge_checks, merge_histograms, merge_journeys, merge_steps
from perfloop.model.base import Estimate
from perfloop.model.run import StepSamples, StepSummary, Summary, Window
from perfloop.stats.histogram import Histogram
from perfloop.stats.intervals import geometric_t_interval
from perfloop.stats.student import mean_sd

CONFIDENCE = 0.95


def summarize(label: str, windows: Sequence[Window]) -> Summary:
    """The summary of one or more windows; ``ValueError`` for none.

    The unit of replication is the window, never the request: requests of one window share its luck, so an interval from them would be too
    narrow. Percentiles are read from the merged histogram; their interval is Student's t on the logs of the windows' own
    percentiles, widened to contain the merged value where it does not. One window has no interval.
    """
    if not windows:
        raise ValueError("a summary needs at least one window")
    names = list(dict.fromkeys(step.name for window in windows for step in window.steps))
    per_step = {name: [step for window in windows for step in window.steps if step.name == name] for name in names}
    duration_s = sum(window.duration_s for window in windows)
    totals = [merge_steps("total", window.steps) for window in windows]
    p95s = [p95 for total in totals if (p95 := Histogram.from_data(total.latency).quantile(0.95))]
    mean, deviation = mean_sd(tuple(p95s)) if p95s else (0.0, 0.0)
    return Summary(
        label=label,
        windows=len(windows),
        window_s=duration_s / len(windows),
        rate_per_s=sum(window.rate_per_s for window in windows) / len(windows),
        total=_summary(label, "total", totals, duration_s),
        steps=tuple(_summary(label, name, parts, duration_s) for name, parts in per_step.items()),
        noise_cv=deviation / mean if len(p95s) > 1 else None,
        lateness_p99_s=max(window.lateness_p99_s for window in windows),
        generator_ok=all(window.generator_ok for window in windows),
        cpu_seconds_per_request=_cpu_per_request(windows),
        users=max(window.users for window in windows),
    )


def merge_windows(label: str, windows: Sequence[Window]) -> Window:
    """Several windows as one: counts and times added, histograms merged without loss; ``ValueError`` for none.

    ``stopped_early`` is the first reason there is; CPU seconds are None where any window has none.
    """
    if not windows:
        raise ValueError("there is no window to merge")
    names = list(dict.fromkeys(step.name for window in windows for step in window.steps))
    cpu = [window.cpu_seconds for window in windows if window.cpu_seconds is not None]
    achieved = [window.achieved_per_s for window in windows if window.achieved_per_s is not None]
    duration_s = sum(window.duration_s for window in windows)
    return Window(
        label=label,
        started_at=min(window.started_at for window in windows),
        duration_s=duration_s,
        rate_per_s=sum(window.rate_per_s for window in windows) / len(windows),
        steps=tuple(merge_steps(name, [step for window in windows for step in window.steps if step.name == name]) for name in names),
        lateness_p99_s=max(window.lateness_p99_s for window in windows),
        generator_ok=all(window.generator_ok for window in windows),
        stopped_early=next((window.stopped_early for window in windows if window.stopped_early), ""),
        cpu_seconds=sum(cpu) if len(cpu) == len(windows) else None,
        generator_cpu=windows[0].generator_cpu,
        per_second_p95_s=tuple(p95 for window in windows for p95 in window.per_second_p95_s),
        achieved_per_s=sum(achieved) / len(achieved) if len(achieved) == len(windows) else None,
        retries=sum(window.retries for window in windows),
        lateness=merge_histograms(window.lateness for window in windows),
        journeys=merge_journeys(journey for window in windows for journey in window.journeys),
        checks=merge_checks(check for window in windows for check in window.checks),
        first_errors={name: detail for window in reversed(windows) for name, detail in window.first_errors.items()},
        generator_busy=max((window.generator_busy for window in windows if window.generator_busy is not None), default=None),
        users=max(window.users for window in windows),
    )


def _summary(label: str, name: str, parts: Sequence[StepSamples], duration_s: float) -> StepSummary:
    merged = merge_steps(name, parts)
    latency = Histogram.from_data(merged.latency)
    each = [Histogram.from_data(part.latency) for part in parts]
    return StepSummary(
        name=name,
        sent=merged.sent,
        ok=merged.ok,
        errors=merged.errors,
        rate_per_s=merged.ok / duration_s if duration_s else 0.0,
        mean_s=latency.mean() if latency.count else None,
        p50_s=_percentile(label, latency, each, 0.5),
        p95_s=_percentile(label, latency, each, 0.95),
        p99_s=_percentile(label, latency, each, 0.99),
        max_s=latency.max_s if latency.count else None,
        latency=merged.latency,
    )


def _percentile(label: str, merged: Histogram, each: Sequence[Histogram], q: float) -> Estimate | None:
    value = merged.quantile(q)
    if value is None:
        return None
    levels = [level for histogram in each if (level := histogram.quantile(q))]
    low = high = None
    if len(levels) > 1:
        _, low, high = geometric_t_interval(levels, CONFIDENCE)
        low, high = min(low, value), max(high, value)
    return Estimate(value=value, low=low, high=high, n=max(1, len(levels)), unit="s", confidence=CONFIDENCE, source=label)


def _cpu_per_request(windows: Sequence[Window]) -> float | None:
    measured = [(window.cpu_seconds, sum(step.sent for step in window.steps)) for window in windows if window.cpu_seconds is not None]
    requests = sum(sent for _, sent in measured)
    return sum(cpu for cpu, _ in measured) / requests if requests else None
