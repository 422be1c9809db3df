"""Where the time goes: the parts add up to what was measured, on recorded evidence of every service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perfloop.diagnose.breakdown import breakdowns, tail_mean_s
from perfloop.model.evidence import Evidence
from perfloop.model.run import HistogramData, StepSamples
from perfloop.stats.histogram import Histogram

CASES = Path(__file__).parents[2] / "cases" / "rules"
RECORDED = sorted(path for path in CASES.glob("*/*.json") if path.stat().st_size > 10_000 and path.parent.name != "cpu-saturated")  # its latencies are made up


def evidence_of(path: Path) -> Evidence:
    data = json.loads(path.read_text())
    return Evidence.model_validate(data.get("evidence", data))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_parts_add_up_to_the_mean_and_to_the_tail(path):
    found = breakdowns(evidence_of(path))
    assert found
    for one in found:
        assert sum(part.mean_s for part in one.parts) == pytest.approx(one.mean_s)
        assert one.parts[-1].kind == "unexplained"
        assert all(part.mean_s >= 0 for part in one.parts[:-1])
        if one.tail_mean_s is not None:
            assert one.tail_mean_s >= one.mean_s * 0.99
            assert sum(part.tail_s or 0.0 for part in one.parts) == pytest.approx(one.tail_mean_s)


def test_the_largest_part_is_the_cause():
    retried, queued, locked = (
        breakdowns(evidence_of(CASES / name))[0] for name in ("retry-storm/flask.json", "thread-pool-exhausted/flask.json", "lock-contention/shop.json")
    )
    assert retried.parts[0].kind in ("downstream", "sleep")
    assert queued.parts[0].kind == "queue"
    assert sum(part.mean_s for part in locked.parts if part.kind == "lock") >= 0.1 * locked.mean_s


def test_the_mean_of_the_slowest():
    histogram = Histogram()
    for number in range(100):
        histogram.record(0.1 if number < 95 else 1.0 + number - 95)
    samples = StepSamples(name="s", sent=100, ok=100, latency=histogram.to_data())
    assert tail_mean_s(samples) == pytest.approx(3.0, rel=0.01)
    assert tail_mean_s(StepSamples(name="s", sent=3, ok=3, latency=HistogramData(buckets=(500,), counts=(3,), sum_s=0.1, max_s=0.1))) is None
