from __future__ import annotations

from perfloop.loop.band import outside
from perfloop.model.run import StepSamples, Window
from perfloop.stats.histogram import Histogram


def window(latency_s: float, errors: int = 0) -> Window:
    histogram = Histogram()
    for _ in range(100 - errors):
        histogram.record(latency_s)
    step = StepSamples(name="GET /", sent=100, ok=100 - errors, errors={"500": errors} if errors else {}, latency=histogram.to_data())
    return Window.model_construct(steps=(step,))


BASELINE = [window(0.100), window(0.104), window(0.098)]


def test_a_round_as_before_is_back_and_a_faster_one_too() -> None:
    assert outside(window(0.105), BASELINE) == ""
    assert outside(window(0.050), BASELINE) == ""


def test_a_slower_or_failing_round_is_not_back() -> None:
    assert "before" in outside(window(0.150), BASELINE)
    assert "failed" in outside(window(0.100, errors=5), BASELINE)
    assert "unknown" in outside(window(0.1, errors=100), BASELINE)


def test_a_noisy_baseline_allows_as_much_as_it_spreads() -> None:
    assert outside(window(0.150), [window(0.08), window(0.16)]) == ""
