"""A load test as people read it: its answer, the measures with their bounds, and the seconds as a chart."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from perfloop.model.base import Estimate
from perfloop.model.loadtest import LoadTest, Measure
from perfloop.report.svg import chart, joined, line, path, text
from perfloop.report.text import MINUS, counted, digits, percent, seconds
from perfloop.stats.histogram import Histogram

WIDTH, HEIGHT = 1060, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 1040, 14, 180
POINTS_MAX = 600
STATES = {True: "yes", False: "no", None: "open"}


def amount(value: Estimate | None) -> str:
    """A measured value in its own unit, with its interval where there is one."""
    if value is None:
        return ""
    known = [end for end in (value.low, value.high) if end is not None and end != value.value]
    span = f" ({_one(value.low, value.unit)} to {_one(value.high, value.unit)})" if known and value.low is not None and value.high is not None else ""
    return _one(value.value, value.unit) + span


def _one(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if unit == "s":
        return seconds(value)
    if unit == "share":
        return percent(value)
    if unit.startswith("bytes"):
        return f"{_signed(value / 2**20)} MiB{unit.removeprefix('bytes')}"
    if unit == "s/h":
        return f"{_signed(value * 1000)} ms/h"
    return f"{'× ' if unit == 'x' else ''}{_signed(value)}{'/s' if unit == '1/s' else f' {unit}' if unit not in ('x', 'exponent', '') else ''}"


def _signed(value: float) -> str:
    return f"{MINUS}{digits(-value)}" if value < 0 else digits(value)


def measure_line(measure: Measure) -> str:
    """One measure as a line: name, value, bound and note."""
    value = amount(measure.value) or "not measured"
    bound = f", needed {measure.bound}" if measure.bound else ""
    note = f"; {measure.note}" if measure.note else ""
    return f"{measure.name}: {value}{bound}{note}"


def lines(test: LoadTest) -> list[tuple[bool | None, str]]:
    """Every line below the answer, with its state: measures, what gave way, shards, hooks and what makes it not repeatable."""
    found: list[tuple[bool | None, str]] = [(m.ok, measure_line(m)) for m in test.measures if m.value is not None or m.note]
    found += [(None, f"gave way: {reason}") for reason in test.gave_way]
    for shard in test.shards:
        what = f"{shard.users} users" if shard.users else f"{shard.rate_per_s:g}/s"
        note = f"; {shard.note}" if shard.note else ""
        found.append((True if shard.state == "done" else None, f"worker {shard.worker}: {what}, {counted(shard.sent, 'request')}, {shard.state}{note}"))
    found += [(None, f"hook {hook.name}: {hook.command} ({seconds(hook.duration_s)})") for hook in test.hooks]
    if not test.repeatable:
        found.append((None, "not repeatable: requests change data and no hooks.reset is configured, so this run is not comparable with another"))
    return found


def timeline(test: LoadTest) -> Markup:
    """p95 of each second as a line, and failures as marks, over the whole test; empty where there are fewer than three seconds."""
    points: list[tuple[float, float | None, int]] = []
    start = 0.0
    for window in test.windows:
        points += [(start + s.elapsed_s, Histogram.from_data(s.latency).quantile(0.95), sum(s.errors.values())) for s in window.per_second]
        start += window.duration_s
    points = points[:: max(1, -(-len(points) // POINTS_MAX))]
    known = [p95 for _, p95, _ in points if p95]
    if len(known) < 3:
        return Markup("")
    last, top = max(at for at, _, _ in points), max(known) * 1.1

    def x(at_s: float) -> float:
        return LEFT + at_s / last * (RIGHT - LEFT)

    def y(value_s: float) -> float:
        return BOTTOM - value_s / top * (BOTTOM - TOP)

    parts = [
        line(LEFT, y(part * top), RIGHT, y(part * top), "grid") + text(LEFT - 6, y(part * top) + 4, seconds(part * top), "end") for part in (0.0, 0.5, 1.0)
    ]
    parts += [text(x(part * last), BOTTOM + 18, seconds(part * last)) for part in (0.0, 0.25, 0.5, 0.75, 1.0)]
    parts.append(path([(x(at), y(p95)) for at, p95, _ in points if p95], "curve before"))
    parts += [line(x(at), BOTTOM, x(at), BOTTOM - 8, "mark bad") for at, _, failed in points if failed]
    return chart(WIDTH, HEIGHT, "p95 of each second", joined(parts))


def level_rows(test: LoadTest) -> Sequence[tuple[str, str, str, str, str]]:
    """The levels of a volume or scalability test as rows: level, throughput, mean, p95, errors."""
    return [
        (digits(level.x), f"{digits(level.throughput_per_s)}/s", seconds(level.mean_s), seconds(level.p95_s), percent(level.error_rate))
        for level in test.levels
    ]
