"""Stored runs compared: a suspicion, never more."""

from __future__ import annotations

from math import exp
from random import Random

from perfloop.load.summary import summarize
from perfloop.model.result import Slo
from perfloop.model.run import StepSamples, Summary, Window
from perfloop.model.verdict import Proof, VerdictStatus
from perfloop.stats.histogram import Histogram
from perfloop.validate.compare import compare_summaries
from perfloop.validate.schedule import schedule
from perfloop.validate.slo import check_slo


def run(level_s: float, seed: int, windows: int = 5, rate: float = 25.0, failed: int = 0) -> Summary:
    noise = Random(seed)
    made = []
    for _ in range(windows):
        latency, luck = Histogram(), exp(noise.gauss(0, 0.03))
        for _ in range(100):
            latency.record(level_s * luck * exp(noise.gauss(0, 0.2)))
        samples = StepSamples(name="GET /", sent=100 + failed, ok=100, errors={"timeout": failed} if failed else {}, latency=latency.to_data())
        made.append(Window(label="x", started_at="2026-01-01T00:00:00Z", duration_s=4.0, rate_per_s=rate, steps=(samples,)))
    return summarize("x", made)


def test_a_large_difference_is_found_and_says_how_it_was_reached() -> None:
    better, worse = compare_summaries(run(0.2, 1), run(0.05, 2)), compare_summaries(run(0.05, 1), run(0.2, 2))
    assert (better.status, worse.status) == (VerdictStatus.IMPROVED, VerdictStatus.REGRESSED)
    assert better.proof == Proof.BEFORE_AFTER
    assert "before and after only" in better.reason
    assert better.ratio
    assert better.ratio.low is not None
    assert better.ratio.high is not None
    assert better.ratio.low < 0.25 < better.ratio.high


def test_the_same_service_twice_is_hardly_ever_a_difference() -> None:
    claims = sum(compare_summaries(run(0.1, seed), run(0.1, seed + 1000)).status in (VerdictStatus.IMPROVED, VerdictStatus.REGRESSED) for seed in range(40))
    assert claims <= 2


def test_unlike_runs_are_not_compared() -> None:
    base = run(0.1, 1)
    for other in (run(0.1, 2, rate=50.0), base.with_(generator_ok=False), base.with_(steps=())):
        assert compare_summaries(base, other).status == VerdictStatus.INVALID
    assert compare_summaries(base, run(0.02, 2, windows=1)).status == VerdictStatus.INCONCLUSIVE


def test_more_errors_break_a_guard() -> None:
    assert not all(guard.ok for guard in compare_summaries(run(0.1, 1), run(0.1, 2, failed=10)).guards)


def test_a_promise_is_kept_broken_or_open_where_the_interval_holds_the_bound() -> None:
    summary = run(0.1, 1, failed=1)
    assert summary.total.p95_s
    p95_ms = summary.total.p95_s.value * 1000
    checks = {bound: check_slo(Slo(latency_p95_ms=bound), summary)[0].ok for bound in (p95_ms * 2, p95_ms, p95_ms / 2)}
    assert list(checks.values()) == [True, None, False]
    assert [check.ok for check in check_slo(Slo(latency_p99_ms=5000, error_rate_max=0.001), summary)] == [True, False]
    assert check_slo(Slo(), summary) == ()


def test_the_order_of_rounds_is_drawn_by_lot_balanced_and_repeatable() -> None:
    orders = schedule(10, 7)
    assert orders == schedule(10, 7)
    assert orders.count(("A", "B")) == orders.count(("B", "A")) == 5
    assert len({schedule(4, seed) for seed in range(50)}) > 2
    assert len(schedule(5, 1)) == 5
