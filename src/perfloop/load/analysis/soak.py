"""Soak: does anything drift while the load stays the same? Latency, errors, and what the processes hold: memory, threads, files, connections.

Each series is cut into blocks (their median; for memory the minimum, under the saw-tooth of a collector), the warm-up is left out, and a line is laid through
with an interval that allows for blocks that follow each other. A leak is growth in *both* halves, each above zero, and worth naming: a pool that fills once, or a heap that
settles, grows in the first half only.
"""

from __future__ import annotations

from collections.abc import Sequence

from perfloop.load.analysis.seconds import instants, median, shown
from perfloop.model.base import Estimate
from perfloop.model.loadtest import LoadKind, LoadTest, Measure, Reading
from perfloop.model.run import Window
from perfloop.stats.trend import Trend, trend

WARM_UP_SHARE = 0.2
BLOCKS = 24
BLOCKS_MIN = 8
#: an interval so many times as wide as what matters or was seen says nothing: it is not told as a figure
UNTOLD_TIMES = 100
#: growth over the judged time that is worth naming, as a share of the level, and absolute
WORTH_SHARE = {"memory_bytes": 0.01, "threads": 0.05, "files": 0.05, "connections": 0.05, "latency": 0.10}
WORTH_MIN = {"memory_bytes": 1 * 2**20, "threads": 3, "files": 8, "connections": 8, "latency": 0.001}
UNITS = {"memory_bytes": "bytes", "latency": "s"}
WORDS = {"memory_bytes": "memory", "threads": "threads", "files": "open files", "connections": "connections", "latency": "p95"}


def judge_soak(windows: Sequence[Window], readings: Sequence[Reading], error_rate_max: float = 0.01) -> LoadTest:
    """Drift of each series as a rate an hour with its interval. Yes, where none grows and what could have been hidden is small."""
    series: dict[str, list[tuple[float, float]]] = {"latency": _latency(windows)}
    for reading in readings:
        series.setdefault(reading.name, []).append((reading.at_s, reading.value))
    measures = [measure for name, points in series.items() if (measure := _drift(name, points)) is not None]
    sent, failed = (sum(values) for values in zip(*((s.sent, s.sent - s.ok) for w in windows for s in w.steps), strict=True))
    share = failed / sent if sent else 0.0
    measures.append(Measure(name="error rate", value=Estimate(value=share, n=sent, unit="share"), bound=f"≤ {error_rate_max:.3g}", ok=share <= error_rate_max))
    grown = [measure for measure in measures if measure.ok is False]
    unknown = [measure for measure in measures if measure.ok is None]
    hours = sum(window.duration_s for window in windows) / 3600
    late = not all(window.generator_ok for window in windows)
    if grown:
        answer = "; ".join(_says(measure) for measure in grown)
    elif unknown:
        answer = f"not decided after {_time(hours)}: {'; '.join(m.note or m.name for m in unknown)}; a longer soak would tell"
    else:
        answer = f"no drift in {_time(hours)}: {', '.join(measure.name for measure in measures[:-1])}"
    return LoadTest(
        kind=LoadKind.SOAK,
        ok=False if grown else None if unknown or late else True,
        answer=answer,
        measures=tuple(measures),
        windows=tuple(windows),
        readings=tuple(readings),
    )


def blocks(points: Sequence[tuple[float, float]], lowest: bool = False) -> list[tuple[float, float]]:
    """Points without the warm-up as at most ``BLOCKS`` blocks: middle time, and median (or minimum) of the values."""
    if not points:
        return []
    first, last = points[0][0], points[-1][0]
    kept = [point for point in points if point[0] >= first + WARM_UP_SHARE * (last - first)]
    size = max(1, len(kept) // BLOCKS)
    groups = [kept[i : i + size] for i in range(0, len(kept) - size + 1, size)]
    return [(sum(at for at, _ in group) / len(group), (min if lowest else median)([value for _, value in group])) for group in groups]


def _drift(name: str, points: Sequence[tuple[float, float]]) -> Measure | None:
    if not points:
        return None
    label = f"drift of {WORDS.get(name, name)}"
    unit = f"{UNITS.get(name, '')}/h".lstrip("/") if UNITS.get(name) else "/h"
    cut = blocks(points, lowest=name == "memory_bytes")
    if len(cut) < BLOCKS_MIN or cut[-1][0] <= cut[0][0]:
        return Measure(name=label, note=f"{label}: {len(cut)} blocks, {BLOCKS_MIN} are needed")
    times, values = [at / 3600 for at, _ in cut], [value for _, value in cut]
    whole, half = trend(times, values), len(cut) // 2
    first, second = trend(times[:half], values[:half]), trend(times[half:], values[half:])
    judged_h = times[-1] - times[0]
    level = median(values)
    worth = max(WORTH_SHARE.get(name, 0.05) * abs(level), WORTH_MIN.get(name, 0.0))
    grew = whole.slope * judged_h
    growing = whole.grows and first.slope > 0 and second.slope > 0 and _half_grows(first, second, whole)
    hidden = whole.high * judged_h
    estimate = Estimate(value=whole.slope, low=_finite(whole.low), high=_finite(whole.high), n=round(whole.n_effective), unit=unit, source="blocks of the soak")
    bound = f"less than {_amount(name, worth)} over the {_time(judged_h)} judged"
    if growing and grew >= worth:
        return Measure(
            name=label,
            value=estimate,
            bound=bound,
            ok=False,
            note=f"{WORDS.get(name, name)} grew from {_amount(name, whole.start)} to {_amount(name, whole.end)}",
        )
    if hidden < 2 * worth or not (whole.grows or second.slope > 0):
        return Measure(name=label, value=estimate, bound=bound, ok=True)
    if grew >= worth and not growing:
        settled = not second.grows and second.slope < 0.25 * whole.slope
        if settled:
            return Measure(name=label, value=estimate, bound=bound, ok=True, note="it grew at first and has settled")
    if not hidden < UNTOLD_TIMES * max(worth, abs(grew)):
        return Measure(name=label, value=estimate, bound=bound, ok=None, note=f"{label}: the soak is too short for an interval")
    return Measure(name=label, value=estimate, bound=bound, ok=None, note=f"{label}: growth of up to {_amount(name, max(0.0, hidden))} is possible")


def _half_grows(first: Trend, second: Trend, whole: Trend) -> bool:
    """The second half still grows, at no less than a quarter of the pace of the whole; a half alone is too short for an interval of its own."""
    return second.slope > 0.25 * whole.slope and first.slope > 0


def _latency(windows: Sequence[Window]) -> list[tuple[float, float]]:
    found, start = [], 0.0
    for window in windows:
        found += [(start + second.at_s, second.p95_s) for second in instants(window) if second.p95_s is not None]
        start += window.duration_s
    return found


def _says(measure: Measure) -> str:
    value = measure.value
    if measure.name == "error rate" or value is None:
        return f"{measure.name} {value.value:.2%}, {measure.bound}" if value else measure.name
    name = next((key for key, word in WORDS.items() if measure.name == f"drift of {word}"), "")
    low = value.low if value.low is not None else value.value
    high = value.high if value.high is not None else value.value
    what = "leak" if name != "latency" else "drift"
    return f"{what}: {measure.note}, {_amount(name, value.value)} an hour ({_amount(name, low)} to {_amount(name, high)})"


def _amount(name: str, value: float) -> str:
    if name == "memory_bytes":
        return f"{value / 2**20:.3g} MiB"
    if name == "latency":
        return f"{shown(value)}"
    return f"{value:.3g} {WORDS.get(name, name)}".strip()


def _time(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min" if hours * 60 >= 2 else f"{hours * 3600:.0f} s"


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None
