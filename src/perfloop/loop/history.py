"""Where the growth comes from: numbers that were given, an access log, or the rates of stored runs; and when each end is reached."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

from perfloop.capacity.forecast import DAY_S, HOUR_S, forecast, grow, reached_s
from perfloop.errors import UsageError
from perfloop.loop.prepare import Session
from perfloop.model.capacity import CapacityPlan, Forecast, Threshold
from perfloop.model.requests import CapacityRequest

LINES_MAX = 5_000_000
RUNS_MAX = 1_000
_STAMP = re.compile(r"\[(\d{2})/([A-Z][a-z]{2})/(\d{4}):(\d{2}):(\d{2}):(\d{2}) ([+-]\d{4})\]")


@dataclass
class Growth:
    """The load now (the busiest hour that is known), the factor to plan for, and the forecast where there is one."""

    now_per_s: float
    factor: float
    forecast: Forecast | None = None
    notes: list[str] = field(default_factory=list)


def growth_of(session: Session, request: CapacityRequest, rate_slo_per_s: float | None) -> Growth:
    """By ``--now`` and ``--growth``; else an access log (``--history``, or the configured one); else the stored runs of this target."""
    months = request.months
    notes: list[str] = []
    points, source = _history(session, request)
    if request.now_per_s is not None:
        now = request.now_per_s
    elif points and source.startswith("access log"):
        now = _peak(points)
    elif session.config.measure.rate_per_s is not None:
        now, notes = session.config.measure.rate_per_s, ["the load now was not given: measure.rate_per_s stands for it (--now-per-s)"]
    else:
        now = 0.5 * rate_slo_per_s if rate_slo_per_s else 1.0
        notes = ["the load now was not given and no log shows it: half of the highest rate under the SLO was taken (--now-per-s)"]
    if request.growth:
        return Growth(now, request.growth_factor, grow(now, request.growth_factor, months), notes)
    if len(points) >= 3:
        found = forecast(points, months * 30.4 * DAY_S, HOUR_S, source)
        if found.points:
            top = max(point.high_per_s for point in found.points)
            return Growth(now, max(1.0, top / now) if now else 1.0, found, notes)
        notes.append(f"{source}: {found.note}")
    notes.append("no growth was given and none could be seen: 10 times is planned for (--growth)")
    return Growth(now, 10.0, grow(now, 10.0, months), notes)


def _history(session: Session, request: CapacityRequest) -> tuple[list[tuple[float, float]], str]:
    name = request.history or session.config.target.access_log
    if name:
        path = session.base_dir / name
        if not path.is_file():
            raise UsageError(f"there is no access log {name}", fix="give a path relative to the configuration")
        with path.open(errors="replace") as lines:
            return rates(lines), f"access log {name}"
    points = []
    for row in session.store.list_runs(RUNS_MAX):
        if row.target_url == session.config.target.url and row.run_id != session.result.run_id and row.ok is not None:
            result = session.store.load_result(row.run_id)
            if result.capacity_plan is not None and result.capacity_plan.now_per_s:
                points.append((datetime.fromisoformat(row.created_at).timestamp(), result.capacity_plan.now_per_s))
    return sorted(points), f"{len(points)} stored runs"


def rates(lines: Iterable[str], step_s: float = HOUR_S) -> list[tuple[float, float]]:
    """Requests a second by hour, from the time stamps of an access log; the first and last hour are left out, for they are not whole."""
    counts: Counter[int] = Counter()
    cache: dict[str, float] = {}
    for line in islice(lines, LINES_MAX):
        match = _STAMP.search(line, 0, 400)
        if match:
            hour = match[0][:15] + match[7]
            if hour not in cache:
                try:
                    cache[hour] = datetime.strptime(match[0], "[%d/%b/%Y:%H:%M:%S %z]").astimezone(UTC).timestamp()
                except ValueError:
                    continue
                if len(cache) > 100_000:
                    break
            counts[int(cache[hour] // step_s)] += 1
    if len(counts) < 3:
        return []
    first, last = min(counts), max(counts)
    return [(cell * step_s, counts[cell] / step_s) for cell in range(first + 1, last)]


def _peak(points: list[tuple[float, float]]) -> float:
    return max(rate for _, rate in points)


def thresholds(plan: CapacityPlan) -> tuple[Threshold, ...]:
    """The date on which the forecast reaches each end: the highest rate under the SLO, then each resource's saturation."""
    if plan.forecast is None or not plan.forecast.points:
        return ()
    ends = [("highest rate under the SLO", plan.rate_slo.value)] if plan.rate_slo else []
    ends += [(f"{item.resource} saturates", item.saturates_at_per_s.value) for item in plan.demands if item.saturates_at_per_s]
    start = 0.0 if plan.forecast.points[0].at_s > 1e9 else datetime.now(UTC).timestamp()
    found = []
    for name, rate in ends:
        early, middle, late = (None if at is None else datetime.fromtimestamp(start + at, UTC).strftime("%Y-%m-%d") for at in reached_s(plan.forecast, rate))
        found.append(Threshold(name=name, rate_per_s=rate, earliest=early or "", expected=middle or "", latest=late or ""))
    return tuple(found)
