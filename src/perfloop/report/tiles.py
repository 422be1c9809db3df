"""The four numbers at the head of a report."""

from __future__ import annotations

from dataclasses import dataclass

from perfloop.model.base import Estimate
from perfloop.model.result import RunResult
from perfloop.report.notice import throughput_gain
from perfloop.report.text import interval, percent, rate, seconds


@dataclass(frozen=True)
class Tile:
    """One number: ``value`` now, ``before`` where there was another, ``delta`` between them; ``proven`` where the intervals do not touch."""

    name: str
    value: str
    before: str = ""
    delta: str = ""
    detail: str = ""
    proven: bool = False
    better: bool = False


def tiles(result: RunResult) -> list[Tile]:
    """p50, p95, p99, and the highest rate that keeps the SLO, or the share of errors where that was not searched."""
    first, last = result.before, result.after or result.before
    if first is None or last is None:
        return []
    shown = [_latency(f"p{q}", getattr(first.total, f"p{q}_s"), getattr(last.total, f"p{q}_s"), result.after is not None) for q in (50, 95, 99)]
    return [*shown, _throughput(result) or _errors(result)]


def _latency(name: str, before: Estimate | None, now: Estimate | None, two: bool) -> Tile:
    if now is None or before is None or not two:
        return Tile(name, seconds(now.value if now else None), detail=interval(now))
    proven = None not in (now.low, now.high, before.low, before.high) and (now.high < before.low or now.low > before.high)  # type: ignore[operator]
    ratio = now.value / before.value if before.value else 1.0
    return Tile(name, seconds(now.value), seconds(before.value), percent(ratio - 1, sign=True), interval(now), proven, ratio < 1)


def _throughput(result: RunResult) -> Tile | None:
    before, after = result.throughput_before, result.throughput_after
    if before is None:
        return None
    now = after or before
    reached = "" if now.bounded else ", the end was not reached"
    gain = throughput_gain(before, after)
    old = rate(before.rate_per_s) if after else ""
    return Tile(
        "highest rate",
        rate(now.rate_per_s),
        old,
        percent(gain, sign=True) if gain else "",
        f"that keeps {now.slo}{reached}",
        gain is not None,
        gain is not None,
    )


def _errors(result: RunResult) -> Tile:
    last = result.after or result.before
    assert last is not None
    failed = last.total.sent - last.total.ok
    share = failed / last.total.sent if last.total.sent else 0.0
    return Tile("errors", percent(share), detail=f"{failed:,} of {last.total.sent:,} requests")
