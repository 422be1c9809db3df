"""The histogram's range, its exact parts, and its columns."""

from __future__ import annotations

import pytest

from perfloop.model.run import HistogramData
from perfloop.stats.histogram import BUCKETS, GROWTH, MAX_S, Histogram, bucket_of, bucket_value


def test_the_range_is_covered_within_one_percent():
    assert (GROWTH - 1) / (GROWTH + 1) < 0.01
    assert bucket_of(0) == 0
    assert bucket_of(1e-6) == 0
    assert bucket_of(MAX_S * 0.999) == bucket_of(1e9) == BUCKETS - 1
    assert bucket_value(BUCKETS - 1) == pytest.approx(MAX_S, rel=0.03)


def test_empty():
    empty = Histogram()
    assert (empty.quantile(0.5), empty.count, empty.mean(), empty.max_s) == (None, 0, 0.0, 0.0)
    assert empty.to_data() == HistogramData()


def test_sum_and_maximum_are_exact():
    histogram = Histogram()
    for value in (0.001, 0.002, 0.006):
        histogram.record(value)
    assert (histogram.count, histogram.max_s) == (3, 0.006)
    assert histogram.mean() == pytest.approx(0.003)
    assert histogram.quantile(1) == pytest.approx(0.006, rel=0.01)
    assert histogram.quantile(1) <= 0.006
    assert histogram.share_above(0.003) == pytest.approx(1 / 3)


def test_rank_is_not_moved_by_rounding():
    histogram = Histogram()
    for _ in range(95):
        histogram.record(0.001)
    for _ in range(5):
        histogram.record(1.0)
    assert histogram.quantile(0.95) == pytest.approx(0.001, rel=0.01)
    assert histogram.quantile(0.951) == pytest.approx(1.0, rel=0.01)


def test_columns_and_back():
    histogram = Histogram()
    for value in (0.001, 0.001, 2.0):
        histogram.record(value)
    data = histogram.to_data()
    back = Histogram.from_data(HistogramData.model_validate_json(data.model_dump_json()))
    assert back.to_data() == data
    counts = [0] * BUCKETS
    for bucket, count in zip(data.buckets, data.counts, strict=True):
        counts[bucket] = count
    added = Histogram()
    added.add_counts(counts)
    assert added.count == 3
    assert added.mean() == pytest.approx(histogram.mean(), rel=0.01)


@pytest.mark.parametrize(
    "data", [HistogramData(buckets=(1,), counts=()), HistogramData(buckets=(BUCKETS,), counts=(1,)), HistogramData(buckets=(1,), counts=(-1,))]
)
def test_columns_that_are_none(data):
    with pytest.raises(ValueError, match="not a histogram"):
        Histogram.from_data(data)


def test_what_is_no_duration():
    for value in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="not a duration"):
            Histogram().record(value)
    with pytest.raises(ValueError, match="quantile"):
        Histogram().quantile(1.5)
