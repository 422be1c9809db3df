"""Counts what became of requests, by step and by second, in sparse columns that merge without loss."""

from __future__ import annotations

from typing import Any

from perfloop.stats.histogram import bucket_of

BINS = 500  # of arrivals and answers over the window, to see whether answers kept up
BINS_MAX = 100_000  # a drain longer than the window by this factor would be a bug


class StepCount:
    """One step since the last line."""

    __slots__ = ("buckets", "bytes_in", "errors", "max_s", "ok", "sent", "sum_s")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Starts the next second."""
        self.sent = self.ok = self.bytes_in = 0
        self.errors: dict[str, int] = {}
        self.buckets: dict[int, int] = {}
        self.sum_s = self.max_s = 0.0

    def to_json(self, name: str) -> dict[str, Any]:
        """As ``StepSamples`` has it."""
        latency = {"buckets": list(self.buckets), "counts": list(self.buckets.values()), "sum_s": self.sum_s, "max_s": self.max_s}
        return {"name": name, "sent": self.sent, "ok": self.ok, "errors": self.errors, "bytes_in": self.bytes_in, "latency": latency}


class Recorder:
    """All steps of a window; ``begin`` sets the zero of its clock."""

    def __init__(self, names: list[str], duration_s: float) -> None:
        self._names = names
        self.steps = [StepCount() for _ in names]
        self.sent = self.failed = self.finished = self.retries = 0
        self.first_errors: dict[str, str] = {}
        self.bin_s = duration_s / BINS
        self._arrived: dict[int, int] = {}
        self._answered: dict[int, int] = {}
        self._late: dict[int, int] = {}
        self._late_max_s = 0.0
        self._start_s = 0.0

    def begin(self, start_s: float) -> None:
        """The window starts at this monotonic time."""
        self._start_s = start_s

    def arrived(self, step: int, intended_s: float, late_s: float) -> None:
        """A request was due, and taken up ``late_s`` after its time."""
        self.sent += 1
        self.steps[step].sent += 1
        at = int((intended_s - self._start_s) / self.bin_s)
        self._arrived[at] = self._arrived.get(at, 0) + 1
        bucket = bucket_of(late_s)
        self._late[bucket] = self._late.get(bucket, 0) + 1
        if late_s > self._late_max_s:
            self._late_max_s = late_s

    def answered(self, step: int, intended_s: float, now_s: float, size_bytes: int) -> None:
        """A success; its latency counts from the intended start."""
        count = self.steps[step]
        latency_s = now_s - intended_s
        self.finished += 1
        count.ok += 1
        count.bytes_in += size_bytes
        count.sum_s += latency_s
        if latency_s > count.max_s:
            count.max_s = latency_s
        bucket = bucket_of(latency_s)
        count.buckets[bucket] = count.buckets.get(bucket, 0) + 1
        at = min(int((now_s - self._start_s) / self.bin_s), BINS_MAX)
        self._answered[at] = self._answered.get(at, 0) + 1

    def failed_as(self, step: int, error: str, detail: str, size_bytes: int) -> None:
        """A failure, in exactly one class; the first detail of each class is kept."""
        count = self.steps[step]
        self.finished += 1
        self.failed += 1
        count.bytes_in += size_bytes
        count.errors[error] = count.errors.get(error, 0) + 1
        if error not in self.first_errors:
            self.first_errors[error] = detail[:300]

    def second(self, elapsed_s: float) -> dict[str, Any]:
        """What happened since the last call; steps without anything new are left out."""
        steps = [count.to_json(name) for name, count in zip(self._names, self.steps, strict=True) if count.sent or count.ok or count.errors or count.bytes_in]
        for count in self.steps:
            count.clear()
        return {"type": "second", "elapsed_s": elapsed_s, "steps": steps}

    def end(self, duration_s: float, stopped_early: str, busy: float) -> dict[str, Any]:
        """The last line, over the whole window."""
        return {
            "type": "end",
            "duration_s": duration_s,
            "stopped_early": stopped_early,
            "busy": busy,
            "retries": self.retries,
            "first_errors": self.first_errors,
            "lateness": {"buckets": list(self._late), "counts": list(self._late.values()), "sum_s": 0.0, "max_s": self._late_max_s},
            "bin_s": self.bin_s,
            "arrived": sorted(self._arrived.items()),
            "answered": sorted(self._answered.items()),
        }
