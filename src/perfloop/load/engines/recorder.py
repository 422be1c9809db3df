"""Counts what became of requests, by step and by second, in columns that merge without loss.

The load only appends to lists; they become counts in batches, by numpy where they are long.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from perfloop.load.engines.heads import Head
from perfloop.stats.histogram import BUCKETS, bucket_of

BINS = 500  # of arrivals and answers over the window, to see whether answers kept up
BINS_MAX = 100_000  # a drain longer than the window by this factor would be a bug
COLUMNS_MAX = 500  # names of steps; a script that makes more gets the rest as one
OTHER = "other"
_NUMPY_FROM = 400  # values from which an array is faster than a loop


def bucket_counts(values: Sequence[float]) -> dict[int, int]:
    """How many of these durations fall into each bucket of the histogram."""
    np = _arrays(values)
    if np is None:
        return Counter(map(bucket_of, values))
    from perfloop.stats.histogram import _OFFSET, _PER_LOG, MIN_S

    places = (np.log(np.maximum(np.asarray(values), MIN_S)) * _PER_LOG + _OFFSET).astype(np.int64)
    counts = np.bincount(np.clip(places, 0, BUCKETS - 1))
    return {int(i): int(counts[i]) for i in np.flatnonzero(counts)}


def bin_counts(values: Sequence[float], start_s: float, bin_s: float) -> dict[int, int]:
    """How many of these times fall into each bin from the start."""
    np = _arrays(values)
    if np is None:
        return Counter([min(int((value - start_s) / bin_s), BINS_MAX) for value in values])
    counts = np.bincount(np.clip(((np.asarray(values) - start_s) / bin_s).astype(np.int64), 0, BINS_MAX))
    return {int(i): int(counts[i]) for i in np.flatnonzero(counts)}


def _arrays(values: Sequence[float]) -> Any:
    """numpy, where it is worth it and was loaded before the load began: to load it in the middle, when a stalled service answers all at once, takes 100 ms."""
    return sys.modules.get("numpy") if len(values) >= _NUMPY_FROM else None


def add(into: dict[Any, int], counts: dict[Any, int]) -> None:
    """Adds counts by key."""
    for key, count in counts.items():
        into[key] = into.get(key, 0) + count


class Durations:
    """A histogram in the making."""

    __slots__ = ("buckets", "max_s", "sum_s")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.sum_s = self.max_s = 0.0

    def add(self, values: Sequence[float]) -> None:
        """Counts these durations."""
        if values:
            add(self.buckets, bucket_counts(values))
            self.sum_s += sum(values)
            self.max_s = max(self.max_s, *values) if len(values) > 1 else max(self.max_s, values[0])

    def to_json(self) -> dict[str, Any]:
        """As ``HistogramData`` has it."""
        return {"buckets": list(self.buckets), "counts": list(self.buckets.values()), "sum_s": self.sum_s, "max_s": self.max_s}


class Column:
    """One step since the last line. ``starts``, ``ends`` and ``heads`` of successes grow together until they are counted."""

    __slots__ = ("_recorder", "bytes_each", "bytes_in", "bytes_out", "ends", "errors", "heads", "latency", "name", "ok", "sent", "starts", "statuses")

    def __init__(self, name: str, recorder: Recorder) -> None:
        self.name, self._recorder = name, recorder
        self.bytes_each = 0  # of a request, where all are alike: nothing is added up for each then
        self.starts: list[float] = []
        self.ends: list[float] = []
        self.heads: list[Head] = []
        self._clear()

    def answered(self, start_s: float, end_s: float, head: Head, size: int) -> None:
        """A complete response: a success, whose latency counts from the intended start, or an answer that is an error."""
        if head.error:
            self.statuses[head.status] = self.statuses.get(head.status, 0) + 1
            self.failed(head.error, f"status {head.status}", size)
            return
        self.starts.append(start_s)
        self.ends.append(end_s)
        if head.rest >= 0:
            self.heads.append(head)
        else:
            self.bytes_in += size
            if head.status:  # what is no HTTP has none
                self.statuses[head.status] = self.statuses.get(head.status, 0) + 1

    def take_back(self, head: Head, size: int) -> None:
        """The success that was told last is not the end of its request; bytes and status stay counted."""
        self.starts.pop()
        self.ends.pop()
        if head.rest >= 0:
            self.heads.pop()
            self.statuses[head.status] = self.statuses.get(head.status, 0) + 1
            self.bytes_in += size

    def unsay(self, head: Head, size: int, error: str, detail: str) -> None:
        """The success that was told last was none: a check failed."""
        self.take_back(head, size)
        self.failed(error, detail, 0)

    def failed(self, error: str, detail: str, size: int) -> None:
        """A failure, in exactly one class; the first detail of each class is kept."""
        self.bytes_in += size
        self.errors[error] = self.errors.get(error, 0) + 1
        self._recorder.failed += 1
        firsts = self._recorder.first_errors
        if error not in firsts:
            firsts[error] = f"{self.name}: {detail}"[:300]

    def count(self, on_ends: Callable[[Sequence[float]], None]) -> None:
        """Takes what was appended into the counts."""
        if not self.ends:
            return
        starts, ends, heads = self.starts, self.ends, self.heads
        self.latency.add([end - start for start, end in zip(starts, ends, strict=True)])
        self.ok += len(ends)
        for head, n in Counter(heads).items():
            self.statuses[head.status] = self.statuses.get(head.status, 0) + n
            self.bytes_in += n * (len(head.raw) + head.rest)
        on_ends(ends)
        starts.clear()
        ends.clear()
        heads.clear()

    def to_json(self) -> dict[str, Any]:
        """As ``StepSamples`` has it; begins the next second."""
        line = {
            "name": self.name,
            "sent": self.sent,
            "ok": self.ok,
            "errors": self.errors,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out + self.sent * self.bytes_each,
            "statuses": self.statuses,
            "latency": self.latency.to_json(),
        }
        self._clear()
        return line

    @property
    def empty(self) -> bool:
        """True where nothing happened since the last line."""
        return not (self.sent or self.ok or self.errors or self.bytes_in)

    def _clear(self) -> None:
        self.sent = self.ok = self.bytes_in = self.bytes_out = 0
        self.errors: dict[str, int] = {}
        self.statuses: dict[int, int] = {}
        self.latency = Durations()


class JourneyCount:
    """Iterations of one journey since the last line."""

    __slots__ = ("durations", "errors", "name", "ok", "started")

    def __init__(self, name: str) -> None:
        self.name = name
        self._clear()

    def to_json(self) -> dict[str, Any]:
        """As ``JourneySamples`` has it; begins the next second."""
        duration = Durations()
        duration.add(self.durations)
        line = {"name": self.name, "started": self.started, "ok": self.ok, "errors": self.errors, "duration": duration.to_json()}
        self._clear()
        return line

    def _clear(self) -> None:
        self.started = self.ok = 0
        self.errors: dict[str, int] = {}
        self.durations: list[float] = []


class Recorder:
    """All steps, journeys and checks of a window; ``start_s`` is the zero of its clock."""

    def __init__(self, duration_s: float) -> None:
        self.columns: dict[str, Column] = {}
        self.journeys: dict[str, JourneyCount] = {}
        self.checks: dict[str, list[int]] = {}  # name → [true, false]
        self.failed = self.ok = self.retries = self.code_failed = 0
        self.first_errors: dict[str, str] = {}
        self.bin_s = duration_s / BINS
        self.start_s = 0.0
        self.arrivals: list[float] = []
        self.lates: list[float] = []
        self._arrived: dict[int, int] = {}
        self._answered: dict[int, int] = {}
        self._late = Durations()

    def column(self, name: str) -> Column:
        """The column of a step; beyond the bound all further names share one."""
        found = self.columns.get(name)
        if found is None:
            if len(self.columns) >= COLUMNS_MAX and name != OTHER:
                return self.column(OTHER)
            found = self.columns[name] = Column(name, self)
        return found

    def journey(self, name: str) -> JourneyCount:
        """The counts of a journey."""
        return self.journeys.setdefault(name, JourneyCount(name))

    @property
    def finished(self) -> int:
        """Requests that ended."""
        return self.ok + self.failed

    def count(self) -> None:
        """Takes what was appended into the counts; called every few milliseconds, so that no batch is long."""
        for column in self.columns.values():
            column.count(self._ended)
        if self.arrivals:
            add(self._arrived, bin_counts(self.arrivals, self.start_s, self.bin_s))
            self.arrivals.clear()
        if self.lates:
            self._late.add(self.lates)
            self.lates.clear()

    def second(self, elapsed_s: float, users: int = 0) -> dict[str, Any]:
        """What happened since the last call; steps without anything new are left out."""
        self.count()
        checks = [{"name": name, "ok": true, "failed": false} for name, (true, false) in self.checks.items()]
        self.checks.clear()
        return {
            "type": "second",
            "elapsed_s": elapsed_s,
            "users": users,
            "steps": [column.to_json() for column in self.columns.values() if not column.empty],
            "journeys": [journey.to_json() for journey in self.journeys.values() if journey.started or journey.ok or journey.errors],
            "checks": checks,
        }

    def end(self, duration_s: float, stopped_early: str, busy: float) -> dict[str, Any]:
        """The last line, over the whole window."""
        self.count()
        return {
            "type": "end",
            "duration_s": duration_s,
            "stopped_early": stopped_early,
            "busy": busy,
            "retries": self.retries,
            "first_errors": self.first_errors,
            "lateness": self._late.to_json(),
            "bin_s": self.bin_s,
            "arrived": sorted(self._arrived.items()),
            "answered": sorted(self._answered.items()),
        }

    def _ended(self, ends: Sequence[float]) -> None:
        self.ok += len(ends)
        add(self._answered, bin_counts(ends, self.start_s, self.bin_s))
