"""Charts of a run as inline SVG: distributions, where the time goes, the pairs of a proof, the scalability law."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import accumulate
from math import exp, log, log10

from markupsafe import Markup

from perfloop.model.capacity import Capacity
from perfloop.model.run import HistogramData, Summary
from perfloop.model.verdict import Verdict
from perfloop.report.svg import chart, element, joined, line, log_ticks, path, text
from perfloop.report.text import digits, percent, rate, seconds
from perfloop.stats.histogram import bucket_value

WIDTH, HEIGHT = 520, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 498, 14, 214
BARS_MAX = 7
_PERCENTILES = (0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
_NINES_MAX = 3.0  # the axis ends at p99.9

Arms = Sequence[tuple[str, HistogramData]]  # ("before", …), ("after", …)


def arms(before: Summary | None, after: Summary | None) -> list[tuple[str, HistogramData]]:
    """The latency histograms that there are, with the class by which they are drawn."""
    both = (("before", before), ("after", after))
    return [(name, summary.total.latency) for name, summary in both if summary is not None and summary.total.latency.counts]


def distribution(histograms: Arms) -> Markup:
    """Share of requests by latency, on a logarithmic axis, before and after on one scale."""
    if not histograms:
        return Markup("")
    low, high = _bounds(histograms)
    cells = 56
    shares = {name: _shares(data, low, high, cells) for name, data in histograms}
    top = max(max(values) for values in shares.values())
    at_x = _log_scale(low, high, LEFT, RIGHT)
    parts = [_x_axis(low, high, at_x)]
    for name, values in shares.items():
        width = (RIGHT - LEFT) / cells
        points = [(LEFT + (cell + 0.5) * width, BOTTOM - value / top * (BOTTOM - TOP)) for cell, value in enumerate(values)]
        outline = [(LEFT, BOTTOM), *points, (RIGHT, BOTTOM)]
        parts.append(path([(float(x), float(y)) for x, y in outline], f"area {name}", close=True))
        parts.append(path(points, f"curve {name}"))
    return chart(WIDTH, HEIGHT, "Share of requests by latency", joined(parts))


def percentiles(histograms: Arms) -> Markup:
    """Latency by percentile, the tail stretched, before and after on one scale."""
    if not histograms:
        return Markup("")
    low, high = _bounds(histograms)
    at_y = _log_scale(low, high, BOTTOM, TOP)
    parts = [line(LEFT, at_y(tick), RIGHT, at_y(tick), "grid") + text(LEFT - 6, at_y(tick) + 4, seconds(tick), "end") for tick in log_ticks(low, high)]
    parts += [line(_nines(p), TOP, _nines(p), BOTTOM, "grid") + text(_nines(p), BOTTOM + 18, f"p{p:g}" if p else "min") for p in _PERCENTILES]
    for name, data in histograms:
        total = sum(data.counts)
        points = [
            (_nines(100 * done / total), at_y(bucket_value(bucket))) for bucket, done in zip(data.buckets, accumulate(data.counts), strict=True) if done < total
        ]
        parts.append(path(points, f"curve {name}"))
    return chart(WIDTH, HEIGHT, "Latency by percentile", joined(parts))


def _nines(p: float) -> float:
    """Where a percentile stands: equal distances for p90, p99, p99.9."""
    return LEFT + min(-log10(max(1 - p / 100, 1e-9)), _NINES_MAX) / _NINES_MAX * (RIGHT - LEFT)


def _bounds(histograms: Arms) -> tuple[float, float]:
    low = min(bucket_value(data.buckets[0]) for _, data in histograms)
    high = max(bucket_value(data.buckets[-1]) for _, data in histograms)
    return low * 0.85, max(high * 1.15, low * 2)


def _log_scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + log(value / low) / log(high / low) * (end - start)


def _shares(data: HistogramData, low: float, high: float, cells: int) -> list[float]:
    """Counts regrouped into the chart's cells, as shares of all."""
    counts: dict[int, int] = defaultdict(int)
    for bucket, count in zip(data.buckets, data.counts, strict=True):
        counts[min(cells - 1, int(log(bucket_value(bucket) / low) / log(high / low) * cells))] += count
    total = sum(data.counts)
    return [counts[cell] / total for cell in range(cells)]


def _x_axis(low: float, high: float, at_x: Callable[[float], float]) -> Markup:
    marks = [line(at_x(tick), TOP, at_x(tick), BOTTOM, "grid") + text(at_x(tick), BOTTOM + 18, seconds(tick)) for tick in log_ticks(low, high)]
    return joined([*marks, line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis")])


def time_bars(before: Summary | None, after: Summary | None) -> list[dict[str, object]]:
    """Request time spent each second by endpoint, as one bar before and one after on the same scale, with its legend."""
    summaries = [(name, summary) for name, summary in (("before", before), ("after", after)) if summary is not None]
    spent = {name: _spent(summary) for name, summary in summaries}
    longest = max((sum(values.values()) for values in spent.values()), default=0.0)
    if longest <= 0:
        return []
    order = sorted(next(iter(spent.values())), key=lambda step: -next(iter(spent.values()))[step])
    color = {step: min(number, BARS_MAX - 1) for number, step in enumerate(order)}
    bars: list[dict[str, object]] = []
    for name, values in spent.items():
        x, parts = 0.0, []
        for step in order:
            width = values.get(step, 0.0) / longest * 100
            title = element("title", f"{step}: {percent(values.get(step, 0.0) / max(sum(values.values()), 1e-12))}")
            parts.append(element("rect", title, x=f"{x:.3f}%", y=0, width=f"{width:.3f}%", height=26, class_=f"c{color[step]}"))
            x += width
        bars.append({"name": name, "svg": element("svg", joined(parts), width="100%", height=26, role="img", class_="bar"), "total": sum(values.values())})
    bars[0]["legend"] = [{"name": step, "color": color[step], "cells": [seconds(values.get(step, 0.0)) for values in spent.values()]} for step in order]
    return bars


def _spent(summary: Summary) -> dict[str, float]:
    window_s = max(summary.windows * summary.window_s, 1e-9)
    return {step.name: step.ok * (step.mean_s or 0.0) / window_s for step in summary.steps}


def pairs(verdict: Verdict) -> Markup:
    """The change in each pair as a dot, the interval as a bar, no change as a line."""
    if not verdict.log_ratios:
        return Markup("")
    width, height, middle = 520, 58, 20
    span = [log(end) for end in (verdict.ratio.low, verdict.ratio.high) if end] if verdict.ratio else []
    ends = [*verdict.log_ratios, *span]
    low, high = min(*ends, -0.12) * 1.1, max(*ends, 0.12) * 1.1

    def at(value: float) -> float:
        return 16 + (value - low) / (high - low) * (width - 32)

    parts = [line(16, middle, width - 16, middle, "axis"), line(at(0), 4, at(0), 36, "zero"), text(at(0), 52, "no change")]
    if verdict.ratio and verdict.ratio.low and verdict.ratio.high:
        left, right = at(log(verdict.ratio.low)), at(log(verdict.ratio.high))
        parts.append(element("rect", x=left, y=middle - 9, width=max(right - left, 3.0), height=18, rx=4, class_="interval"))
        if abs(at(log(verdict.ratio.value)) - at(0)) > 90:
            parts.append(text(min(max(at(log(verdict.ratio.value)), 40), width - 40), 52, percent(verdict.ratio.value - 1, sign=True)))
    parts += [
        element("circle", element("title", percent(exp(value) - 1, sign=True)), cx=at(value), cy=middle, r=4.5, class_="dot") for value in verdict.log_ratios
    ]
    return chart(width, height, f"{len(verdict.log_ratios)} pairs", joined(parts))


def capacity(found: Capacity) -> Markup:
    """Throughput by concurrency: the measured points, and the fitted law where there is one, no further than it is valid."""
    if len(found.points) < 2:
        return Markup("")
    end = max(max(x for x, _ in found.points), found.valid_up_to or 0) * 1.08
    law = _law(found, end)
    top = max(y for _, y in (*found.points, *law, *((0.0, p.throughput.high or 0.0) for p in found.curve))) * 1.1

    def at(x: float, y: float) -> tuple[float, float]:
        return LEFT + x / end * (RIGHT - LEFT), BOTTOM - y / top * (BOTTOM - TOP)

    parts = [
        line(LEFT, at(0, level)[1], RIGHT, at(0, level)[1], "grid") + text(LEFT - 6, at(0, level)[1] + 4, rate(level), "end")
        for level in (top / 3, top * 2 / 3)
    ]
    parts += [line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis"), text(RIGHT, BOTTOM + 18, f"{digits(end)} requests in flight", "end")]
    if found.curve:
        edge = [(p.concurrency, p.throughput.low or 0.0) for p in found.curve] + [(p.concurrency, p.throughput.high or 0.0) for p in reversed(found.curve)]
        parts.append(path([at(x, y) for x, y in edge], "area after", close=True))
    if law:
        parts.append(path([at(x, y) for x, y in law], "curve after"))
    parts += [
        element("circle", element("title", f"{digits(x)} in flight: {rate(y)}"), cx=at(x, y)[0], cy=at(x, y)[1], r=4.5, class_="dot") for x, y in found.points
    ]
    return chart(WIDTH, HEIGHT, "Throughput by concurrency", joined(parts))


def _law(found: Capacity, end: float) -> list[tuple[float, float]]:
    """The fitted curve from 0 to ``end``; empty where nothing was fitted."""
    if not (found.alpha and found.beta and found.gamma_per_s):
        return []
    alpha, beta, gamma_per_s = found.alpha.value, found.beta.value, found.gamma_per_s.value
    steps = [end * k / 60 for k in range(61)]
    return [(n, gamma_per_s * n / max(1 + alpha * (n - 1) + beta * n * (n - 1), 1e-9)) for n in steps]
