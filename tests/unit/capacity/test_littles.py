"""Little's law on windows that agree with themselves and on windows that do not."""

from __future__ import annotations

from perfloop.capacity.littles import check
from perfloop.model.run import HistogramData, StepSamples, Window


def window(sent: int, ok: int, mean_s: float, rate_per_s: float = 50.0, duration_s: float = 10.0) -> Window:
    latency = HistogramData(buckets=(1,), counts=(ok,), sum_s=ok * mean_s, max_s=mean_s)
    return Window(label="x", started_at="", duration_s=duration_s, rate_per_s=rate_per_s, steps=(StepSamples(name="GET /", sent=sent, ok=ok, latency=latency),))


def test_a_consistent_window_is_ok_and_names_its_concurrency() -> None:
    found = check(window(505, 505, 0.1), measured_concurrency=5.5, connections_max=256)
    assert found.ok
    assert found.concurrency == 505 * 0.1 / 10
    assert found.arrivals_per_s == 50.5


def test_a_generator_that_sent_too_little_is_found() -> None:
    assert "intended" in check(window(300, 300, 0.1)).note


def test_latency_that_hides_waiting_for_a_connection_is_found() -> None:
    assert "connections" in check(window(500, 500, 2.0), connections_max=10).note


def test_a_count_from_elsewhere_that_disagrees_is_found() -> None:
    found = check(window(500, 500, 0.2), measured_concurrency=40)
    assert not found.ok
    assert "40.0" in found.note


def test_an_empty_window_is_no_division_by_zero() -> None:
    assert check(window(0, 0, 0.0, rate_per_s=0.1, duration_s=1.0)).ok
