"""For any durations: merging loses nothing, and quantiles are within 1 %."""

from __future__ import annotations

from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from perfloop.stats.histogram import BUCKETS, MAX_S, MIN_S, Histogram, bucket_of, bucket_value

DURATIONS = st.lists(st.floats(MIN_S, MAX_S * 0.999), max_size=200)


def filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@given(DURATIONS, DURATIONS)
def test_merge_is_the_histogram_of_the_union(first, second):
    merged = filled(first)
    merged.merge(filled(second))
    union = filled(first + second)
    assert merged.to_data().buckets == union.to_data().buckets
    assert merged.to_data().counts == union.to_data().counts
    assert merged.count == union.count
    assert merged.max_s == union.max_s
    assert abs(merged.sum_s - union.sum_s) <= 1e-9 * max(1.0, union.sum_s)


@given(DURATIONS.filter(bool), st.floats(0, 1))
def test_quantiles_are_within_one_percent(values, q):
    true = sorted(values)[max(1, ceil(q * len(values) - 1e-9)) - 1]
    found = filled(values).quantile(q)
    assert found is not None
    assert abs(found - true) <= 0.01 * true


@given(st.integers(0, BUCKETS - 1))
def test_a_bucket_holds_its_value(i):
    assert bucket_of(bucket_value(i)) == i


@given(st.floats(0, 1e7), st.floats(0, 1e7))
def test_buckets_keep_the_order(a, b):
    assert (bucket_of(a) <= bucket_of(b)) if a <= b else (bucket_of(a) >= bucket_of(b))


@given(DURATIONS)
def test_columns_there_and_back(values):
    histogram = filled(values)
    assert Histogram.from_data(histogram.to_data()).to_data() == histogram.to_data()
