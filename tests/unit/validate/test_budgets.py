"""Budgets: kept, broken, and undecided where the interval contains the bound."""

from __future__ import annotations

from math import exp
from random import Random

import pytest

from perfloop.model.config import BudgetConfig
from perfloop.model.run import StepSamples, Window
from perfloop.stats.histogram import Histogram
from perfloop.validate.budgets import check_budgets
from perfloop.validate.question import Question

STEP = "GET /orders"


def window(level_s: float, noise: Random, failed: int = 0, size: int = 500, cpu: float = 1.0) -> Window:
    latency = Histogram()
    for _ in range(200):
        latency.record(level_s * exp(noise.gauss(0, 0.1)))
    step = StepSamples(name=STEP, sent=200 + failed, ok=200, errors={"status_5xx": failed} if failed else {}, bytes_in=200 * size, latency=latency.to_data())
    return Window(label="proof", started_at="2026-01-01T00:00:00Z", duration_s=4.0, rate_per_s=50, steps=(step,), cpu_seconds=cpu)


def pairs(ratio: float, n: int = 6, spread: float = 0.01, **more: float) -> list[tuple[Window, Window]]:
    noise = Random(3)
    return [
        (window(0.1 * exp(noise.gauss(0, spread)), noise), window(0.1 * ratio * exp(noise.gauss(0, spread)), noise, **more))  # type: ignore[arg-type]
        for _ in range(n)
    ]


def one(made: list[tuple[Window, Window]], **budget: object) -> bool | None:
    (check,) = check_budgets([BudgetConfig(**budget)], made, Question(pairs_max=8))  # type: ignore[arg-type]
    return check.ok


@pytest.mark.parametrize(("bound", "ok"), [(200, True), (50, False)])
def test_absolute(bound: float, ok: bool) -> None:
    for metric in ("p50_ms", "mean_ms", "p99_ms"):
        assert one(pairs(1.0), metric=metric, max=bound) is ok
    assert one(pairs(1.0), metric="p95_ms", step=STEP, max=bound) is ok


def test_a_bound_inside_the_interval_decides_nothing() -> None:
    assert one(pairs(1.0, spread=0.2), metric="mean_ms", max=100) is None


@pytest.mark.parametrize(("ratio", "ok"), [(1.0, True), (1.5, False)])
def test_relative(ratio: float, ok: bool) -> None:
    assert one(pairs(ratio, n=8), metric="mean_ms", worse_max=0.2) is ok


def test_errors_bytes_and_cpu() -> None:
    assert one(pairs(1.0, failed=20), metric="error_rate", max=0.01) is False
    assert one(pairs(1.0), metric="error_rate", max=0.01) is True
    assert one(pairs(1.0, size=900, n=8), metric="bytes_per_response", worse_max=0.5) is False
    assert one(pairs(1.0), metric="bytes_per_response", max=600) is True
    assert one(pairs(1.0, cpu=2.0), metric="cpu_ms_per_request", max=7) is False


def test_what_was_not_measured_is_undecided_and_a_budget_needs_a_bound() -> None:
    assert one(pairs(1.0), metric="p95_ms", step="GET /never", max=5) is None
    assert one(pairs(1.0, n=1), metric="mean_ms", worse_max=0.1) is None
    with pytest.raises(ValueError, match="max, worse_max"):
        BudgetConfig(metric="mean_ms")
