"""Summaries of windows: merged, never averaged; intervals from windows, never from requests."""

from __future__ import annotations

import pytest

from perfloop.load.summary import merge_windows, summarize
from perfloop.model.run import StepSamples, Window
from perfloop.stats.histogram import Histogram
from perfloop.stats.intervals import geometric_t_interval


def samples(name: str, latencies: list[float], **errors: int) -> StepSamples:
    histogram = Histogram()
    for value in latencies:
        histogram.record(value)
    return StepSamples(name=name, sent=len(latencies) + sum(errors.values()), ok=len(latencies), errors=errors, bytes_in=10, latency=histogram.to_data())


def window(steps: list[StepSamples], **words) -> Window:
    return Window(**{"label": "x", "started_at": "2024-01-01T00:00:00Z", "duration_s": 2.0, "rate_per_s": 50.0, "steps": tuple(steps), **words})


def test_percentiles_are_of_the_merged_histogram_and_intervals_of_the_windows():
    parts = [[0.010] * 99 + [1.0], [0.020] * 100, [0.030] * 100]
    summary = summarize("baseline", [window([samples("a", part)]) for part in parts])
    (step,) = summary.steps
    assert step.p50_s.value == pytest.approx(0.020, rel=0.01)
    assert step.p99_s.value == pytest.approx(0.030, rel=0.01)
    assert step.p95_s.n == 3
    _, low, high = geometric_t_interval([0.010, 0.020, 0.030], 0.95)
    assert step.p95_s.low == pytest.approx(low, rel=0.02)
    assert step.p95_s.high == pytest.approx(high, rel=0.02)
    assert step.p95_s.low <= step.p95_s.value <= step.p95_s.high
    assert step.max_s == 1.0
    assert step.p95_s.source == "baseline"
    assert step.rate_per_s == pytest.approx(50)


def test_total_is_all_steps_together():
    summary = summarize("x", [window([samples("a", [0.01] * 10, timeout=1), samples("b", [0.1] * 10, timeout=1, reset=2)])] * 2)
    assert (summary.total.sent, summary.total.ok, summary.total.errors) == (48, 40, {"timeout": 4, "reset": 4})
    assert summary.total.p95_s.value == pytest.approx(0.1, rel=0.01)
    assert [step.name for step in summary.steps] == ["a", "b"]
    assert summary.windows == 2
    assert summary.noise_cv == pytest.approx(0)


def test_one_window_has_no_interval_and_nothing_has_no_percentile():
    summary = summarize("x", [window([samples("a", [0.01]), samples("b", [], connect=3)])])
    assert (summary.total.p50_s.low, summary.total.p50_s.n, summary.noise_cv) == (None, 1, None)
    assert (summary.steps[1].p95_s, summary.steps[1].mean_s, summary.steps[1].max_s) == (None, None, None)
    with pytest.raises(ValueError, match="at least one window"):
        summarize("x", [])


def test_noise_cpu_and_lateness():
    windows = [window([samples("a", [level] * 20)], cpu_seconds=1.0, lateness_p99_s=level, generator_ok=level < 0.02) for level in (0.01, 0.02)]
    summary = summarize("x", windows)
    assert summary.noise_cv == pytest.approx(0.4714, rel=0.03)
    assert summary.cpu_seconds_per_request == pytest.approx(0.05)
    assert (summary.lateness_p99_s, summary.generator_ok) == (0.02, False)


def test_merged_windows():
    first = window([samples("a", [0.01] * 5)], cpu_seconds=1.0, achieved_per_s=10.0, retries=1, per_second_p95_s=(0.1,))
    second = window(
        [samples("a", [0.02] * 5), samples("b", [0.5], reset=1)], cpu_seconds=2.0, achieved_per_s=20.0, stopped_early="broken", per_second_p95_s=(0.2,)
    )
    merged = merge_windows("both", [first, second])
    assert (merged.label, merged.duration_s, merged.cpu_seconds, merged.achieved_per_s, merged.retries) == ("both", 4.0, 3.0, 15.0, 1)
    assert {s.name: (s.sent, s.ok) for s in merged.steps} == {"a": (10, 10), "b": (2, 1)}
    assert merged.stopped_early == "broken"
    assert merged.per_second_p95_s == (0.1, 0.2)
    assert merge_windows("x", [first, second.with_(cpu_seconds=None)]).cpu_seconds is None
