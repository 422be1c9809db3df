"""The seconds of a test as numbers that the kinds judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfloop.load.merge import merge_histograms
from perfloop.model.run import SecondSamples, Window
from perfloop.stats.histogram import Histogram


@dataclass(frozen=True)
class Instant:
    """One second: its end ``at_s``, its p95 (None without a success), and the share of ended requests that failed."""

    at_s: float
    p95_s: float | None
    ok: int
    failed: int

    @property
    def error_rate(self) -> float:
        """Failures by what ended in this second; 0 where nothing did."""
        return self.failed / (self.ok + self.failed) if self.ok + self.failed else 0.0


def instants(window: Window) -> tuple[Instant, ...]:
    """The seconds of a window in which anything ended or was due."""
    found = []
    for second in window.per_second:
        if second.sent or second.ok or second.errors:
            p95 = Histogram.from_data(second.latency).quantile(0.95)
            found.append(Instant(second.elapsed_s, p95, second.ok, sum(second.errors.values())))
    return tuple(found)


def merged_p95(seconds: Sequence[SecondSamples]) -> float | None:
    """The p95 of several seconds together, in seconds."""
    return Histogram.from_data(merge_histograms(second.latency for second in seconds)).quantile(0.95)


def median(values: Sequence[float]) -> float:
    """The middle value; ``ValueError`` for none."""
    if not values:
        raise ValueError("nothing has no median")
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def shown(seconds: float | None) -> str:
    """A time as an answer says it: ``41.2 ms``, ``1.04 s``; a dash where it is unknown."""
    if seconds is None:
        return "–"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"
