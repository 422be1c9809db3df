"""Counting in batches, by arrays and without them."""

from __future__ import annotations

import sys

import numpy  # noqa: F401 -- the counts by arrays are compared
import pytest

from perfloop.load.engines.recorder import _NUMPY_FROM, bin_counts, bucket_counts


@pytest.mark.parametrize("size", [1, _NUMPY_FROM, 3_000])
def test_a_burst_of_answers_is_counted_the_same_without_arrays_which_are_never_loaded_in_the_middle(monkeypatch, size):
    values = [1e-5 * 1.01**i for i in range(size)]
    buckets, bins = bucket_counts(values), bin_counts(values, 0.0, 0.01)
    monkeypatch.delitem(sys.modules, "numpy")
    assert dict(bucket_counts(values)) == buckets
    assert dict(bin_counts(values, 0.0, 0.01)) == bins
    assert sum(buckets.values()) == sum(bins.values()) == size
    assert "numpy" not in sys.modules
