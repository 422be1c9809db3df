"""One number per round, and levels over rounds: percentiles are read from merged histograms, intervals come from the rounds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Literal

from perfloop.model.base import Estimate
from perfloop.model.run import StepSamples, Window
from perfloop.stats.histogram import Histogram
from perfloop.stats.intervals import geometric_t_interval

Metric = Literal["p95_s", "mean_s", "geomean_s", "cpu_per_request"]
UNITS = {"p50_s": "s", "p95_s": "s", "p99_s": "s", "mean_s": "s", "geomean_s": "s", "cpu_per_request": "s"}
_QUANTILES = {"p50_s": 0.5, "p95_s": 0.95, "p99_s": 0.99}


def samples(window: Window, step: str | None) -> tuple[StepSamples, ...]:
    """The step's samples in a window; all steps' where ``step`` is None."""
    return tuple(one for one in window.steps if step is None or one.name == step)


def merged(windows: Iterable[Window], step: str | None) -> Histogram:
    """All successful latencies of a step (None: of all steps) in these windows."""
    histogram = Histogram()
    for window in windows:
        for one in samples(window, step):
            histogram.merge(Histogram.from_data(one.latency))
    return histogram


def sent_and_failed(windows: Iterable[Window], step: str | None = None) -> tuple[int, int]:
    """Requests sent, and how many of them did not succeed."""
    parts = [one for window in windows for one in samples(window, step)]
    return sum(one.sent for one in parts), sum(sum(one.errors.values()) for one in parts)


def level(windows: Sequence[Window], step: str | None, metric: str) -> float | None:
    """The metric over these windows together; None where nothing was measured. CPU is that of the whole service for any step."""
    if metric == "cpu_per_request":
        cpu = [window.cpu_seconds for window in windows if window.cpu_seconds is not None]
        sent, _ = sent_and_failed(windows)
        return sum(cpu) / sent if sent and len(cpu) == len(windows) and sum(cpu) > 0 else None
    histogram = merged(windows, step)
    if metric in _QUANTILES:
        return histogram.quantile(_QUANTILES[metric]) or None
    return (histogram.geometric_mean() if metric == "geomean_s" else histogram.mean()) or None


def level_estimate(windows: Sequence[Window], step: str | None, metric: str, confidence: float, source: str) -> Estimate | None:
    """The level over these rounds with its interval: Student's t on the logs of the rounds' own levels, widened to contain the merged value."""
    value = level(windows, step, metric)
    if value is None:
        return None
    each = [one for window in windows if (one := level([window], step, metric))]
    low = high = None
    if len(each) > 1:
        _, low, high = geometric_t_interval(each, confidence)
        low, high = min(low, value), max(high, value)
    return Estimate(value=value, low=_finite(low), high=_finite(high), n=max(1, len(each)), unit=UNITS[metric], confidence=confidence, source=source)


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
