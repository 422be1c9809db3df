"""A log-bucket histogram of durations: mergeable without loss, relative error of any quantile ≤ 1 %, 1 µs to 1 h.

Bucket ``i`` holds values from ``MIN_S · GROWTH^i`` (inclusive) to ``MIN_S · GROWTH^(i+1)``; its value is the point whose
relative distance to both bounds is the same, (GROWTH − 1)/(GROWTH + 1) = 0.97 % (Masson et al., DDSketch, VLDB 2019). Values
outside the range count in the first or last bucket; percentiles are read from merged counts, never averaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, exp, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the words are loaded only where data leaves: the load engine's process starts without them
    from perfloop.model.run import HistogramData

MIN_S, MAX_S = 1e-6, 3600.0
GROWTH = 1.0195
RELATIVE_ERROR = 0.01  # promised; the bucket width leaves a margin for rounding at the bounds
_PER_LOG = 1.0 / log(GROWTH)
_OFFSET = -log(MIN_S) * _PER_LOG
BUCKETS = int(log(MAX_S / MIN_S) * _PER_LOG) + 1
_VALUES = tuple(MIN_S * exp(i / _PER_LOG) * 2 * GROWTH / (1 + GROWTH) for i in range(BUCKETS))


def bucket_of(seconds: float) -> int:
    """The bucket that a duration falls into; below 1 µs the first, above 1 h the last."""
    if seconds <= MIN_S:
        return 0
    return min(int(log(seconds) * _PER_LOG + _OFFSET), BUCKETS - 1)


def bucket_value(i: int) -> float:
    """The duration in seconds that stands for all values of bucket ``i``; ``IndexError`` outside the range."""
    if i < 0:
        raise IndexError(f"there is no bucket {i}")
    return _VALUES[i]


class Histogram:
    """Counts of durations in log buckets. ``sum_s`` and ``max_s`` are exact where values were recorded one by one."""

    __slots__ = ("_counts", "count", "max_s", "sum_s")

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self.count = 0
        self.sum_s = 0.0
        self.max_s = 0.0

    def record(self, seconds: float) -> None:
        """Counts one duration; ``ValueError`` for a negative one or NaN."""
        if not seconds >= 0:
            raise ValueError(f"{seconds} is not a duration")
        self._counts[bucket_of(seconds)] += 1
        self.count += 1
        self.sum_s += seconds
        if seconds > self.max_s:
            self.max_s = seconds

    def add_counts(self, bucket_array: Sequence[int]) -> None:
        """Adds counts by bucket (index = bucket). Sum and maximum are then estimated from the buckets."""
        if len(bucket_array) > BUCKETS:
            raise ValueError(f"{len(bucket_array)} buckets are more than the {BUCKETS} there are")
        self._add(enumerate(bucket_array))

    def merge(self, other: Histogram) -> None:
        """Adds all counts of another histogram; the result is the histogram of the union."""
        self._counts = [mine + theirs for mine, theirs in zip(self._counts, other._counts, strict=True)]
        self.count += other.count
        self.sum_s += other.sum_s
        self.max_s = max(self.max_s, other.max_s)

    def quantile(self, q: float) -> float | None:
        """The smallest recorded value with at least a share ``q`` of all at or below it, within 1 %; None when empty."""
        if not 0 <= q <= 1:
            raise ValueError(f"quantile {q} is outside 0 to 1")
        if not self.count:
            return None
        # the tiny slack keeps 0.95 · 100 = 95.00000000000001 from asking for the 96th value
        rank = max(1, ceil(q * self.count - 1e-9))
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return min(_VALUES[bucket], self.max_s)
        raise AssertionError("counts and their total differ")

    def mean(self) -> float:
        """The mean in seconds; 0 when empty."""
        return self.sum_s / self.count if self.count else 0.0

    def geometric_mean(self) -> float:
        """The geometric mean in seconds, within 1 %; 0 when empty."""
        return exp(sum(count * log(_VALUES[bucket]) for bucket, count in enumerate(self._counts) if count) / self.count) if self.count else 0.0

    def share_above(self, seconds: float) -> float:
        """The share of values above a bound, exact to the bucket; 0 when empty."""
        return sum(self._counts[bucket_of(seconds) + 1 :]) / self.count if self.count else 0.0

    def to_data(self) -> HistogramData:
        """The columns to store: only buckets that hold something."""
        from perfloop.model.run import HistogramData

        filled = [(bucket, count) for bucket, count in enumerate(self._counts) if count]
        return HistogramData(buckets=tuple(b for b, _ in filled), counts=tuple(c for _, c in filled), sum_s=self.sum_s, max_s=self.max_s)

    @classmethod
    def from_data(cls, data: HistogramData) -> Histogram:
        """The histogram back from its columns; ``ValueError`` for columns that are none."""
        return cls.from_columns(data.buckets, data.counts, data.sum_s, data.max_s)

    @classmethod
    def from_columns(cls, buckets: Sequence[int], counts: Sequence[int], sum_s: float, max_s: float) -> Histogram:
        """A histogram from sparse columns; ``ValueError`` where they are of different length, negative or out of range."""
        if len(buckets) != len(counts) or any(not 0 <= b < BUCKETS for b in buckets) or any(c < 0 for c in counts):
            raise ValueError("these columns are not a histogram")
        histogram = cls()
        histogram._add(zip(buckets, counts, strict=True))
        histogram.sum_s, histogram.max_s = sum_s, max_s
        return histogram

    def _add(self, columns: Iterable[tuple[int, int]]) -> None:
        for bucket, count in columns:
            if count:
                self._counts[bucket] += count
                self.count += count
                self.sum_s += count * _VALUES[bucket]
                self.max_s = max(self.max_s, _VALUES[bucket])
