"""A capacity plan as sentences and tables, which every format renders in its own way, and its charts."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from perfloop.model.base import Estimate
from perfloop.model.capacity import CapacityPlan, Demand, Option, Simulated
from perfloop.report.svg import chart, element, joined, line, path, text
from perfloop.report.text import UNKNOWN, digits, percent, rate, seconds

WIDTH, HEIGHT = 520, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 498, 14, 214
DEMANDS_MAX = 8


@dataclass(frozen=True)
class Table:
    """One table: ``marked`` rows are those to look at first. The first column is text, the others are numbers unless ``words``."""

    title: str
    hint: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: tuple[int, ...] = ()
    words: bool = False


def answer(plan: CapacityPlan) -> str:
    """The plan as one sentence."""
    first = _first(plan)
    measured = f"; closed load reached {_span(plan.saturated_per_s)}" if plan.saturated_per_s else ""
    predicted = plan.predicted_per_s or (first.saturates_at_per_s if first else None)
    named = f"{first.resource} ends it" if first and not plan.predicted_note else "what ends it was not seen"
    end = named + (f", predicted at {_span(predicted)}" if predicted else "") + measured
    level = f"{rate(plan.rate_slo.value)} keep {plan.slo}; {end}" if plan.rate_slo else end[:1].upper() + end[1:]
    chosen = next((option for option in plan.options if option.chosen), None)
    wanted = plan.now_per_s * plan.growth
    need = f"{digits(plan.growth)} × the load now is {rate(wanted)}"
    if chosen is None:
        action = "no option of the table is known to keep the SLO there"
    elif chosen.kind == "as it is":
        action = "which it carries as it is"
    else:
        cost = f" for {_money(chosen.cost_per_month)} a month" if chosen.cost_per_month is not None else ""
        action = f"for which {chosen.title}{cost} would do"
    return f"{level}. {need}, {action}."


def tables(plan: CapacityPlan) -> list[Table]:
    """All tables of the plan that hold anything."""
    found = [_order(plan), _needs(plan), _copies(plan), _options(plan), _policy(plan), _dates(plan), _size(plan)]
    return [table for table in found if table is not None and table.rows]


def _order(plan: CapacityPlan) -> Table:
    rows = [
        (
            item.resource,
            _each(item),
            _amount(item.capacity, item.unit),
            _span(item.saturates_at_per_s),
            item.capacity_source if item.saturates_at_per_s else item.note,
        )
        for item in plan.demands[:DEMANDS_MAX]
    ]
    measured = f" Measured with closed load: {_span(plan.saturated_per_s)}." if plan.saturated_per_s else ""
    bursts = f" With bursts: {_span(plan.predicted_per_s)}." if plan.bursts else ""
    hint = f"Predicted from windows up to {rate(plan.gentle_max_per_s)} by the utilisation law; 90 % intervals.{bursts}{measured}"
    return Table(
        "Order of saturation", hint, ("resource", "a request takes", "there is", "saturates at", "because"), tuple(rows), (0,) if rows and _first(plan) else ()
    )


def _needs(plan: CapacityPlan) -> Table:
    rows = []
    for need in plan.needs:
        short = ", ".join(need.short) or "none"
        most = max(need.used.items(), key=lambda item: item[1], default=("", 0.0))
        used = f"{most[0]} {percent(most[1])}" if most[0] else UNKNOWN
        rows.append((f"{digits(need.factor)} ×", rate(need.rate_per_s), {True: "kept", False: "missed", None: "not measured"}[need.keeps_slo], used, short))
    return Table("What a growth takes", "As it is now, nothing added.", ("growth", "rate", "SLO", "used most", "does not suffice"), tuple(rows), words=True)


def _copies(plan: CapacityPlan) -> Table | None:
    if not plan.replicas:
        return None
    rows = tuple((str(one.count), _span(one.rate_per_s), percent(one.efficiency)) for one in plan.replicas)
    hint = f"Closed load through one nginx; a copy took {seconds(plan.replicas[0].startup_s)} to start. What they share on this machine is part of it."
    return Table("Replicas", hint, ("copies", "reached", "of so many times the first"), rows)


def _options(plan: CapacityPlan) -> Table:
    rows, marked = [], []
    for number, option in enumerate(plan.options):
        if option.chosen:
            marked.append(number)
        rows.append(
            (
                option.title,
                rate(option.rate_per_s),
                seconds(option.p95_s),
                _money(option.cost_per_month),
                _kept(option),
                "; ".join(filter(None, (*option.changes, option.assumes))),
            )
        )
    hint = f"For {rate(plan.now_per_s * plan.growth)}. Prices of {plan.prices_dated}; edit the table by capacity.instances."
    return Table("Options", hint, ("option", "carries", "p95", "a month", "SLO", "changes, and what it rests on"), tuple(rows), tuple(marked))


def _policy(plan: CapacityPlan) -> Table | None:
    if plan.policy is None:
        return None
    found = plan.policy
    rows = tuple(
        (f"{run.policy}: {run.scenario}", seconds(run.broken_s), percent(run.broken_share), str(run.replicas_max), digits(run.replica_hours), _money(run.cost))
        for run in found.simulated
    )
    hint = f"Derived: {digits(found.target)} {found.unit}, {found.replicas_min} to {found.replicas_max} replicas. {found.why[:1].upper()}{found.why[1:]}. Played second by second with the Kubernetes algorithm; autoscaler.yaml lies beside this report."
    return Table("Autoscaling", hint, ("policy and arrivals", "outside SLO", "requests", "replicas", "replica-hours", "cost"), rows)


def _dates(plan: CapacityPlan) -> Table | None:
    if plan.forecast is None:
        return None
    rows = tuple(
        (item.name, rate(item.rate_per_s), item.earliest or "not reached", item.expected or "not reached", item.latest or "not reached")
        for item in plan.thresholds
    )
    growth = plan.forecast.growth_per_month
    each = f" {percent(growth.value, sign=True)} a month." if growth else ""
    hint = f"Forecast from {plan.forecast.source}.{each} {plan.forecast.note[:1].upper()}{plan.forecast.note[1:]}".rstrip(". ") + "."
    return Table("When", hint, ("threshold", "rate", "earliest", "expected", "latest"), rows)


def _size(plan: CapacityPlan) -> Table | None:
    found = plan.right_size
    if found is None:
        return None
    row = (
        f"{found.cpu_cores_before:g} → {found.cpu_cores:g} cores, {_amount(found.memory_before_bytes, 'bytes')} → {_amount(found.memory_bytes, 'bytes')}",
        percent(found.saved_share),
        seconds(found.p95_s),
        {True: "kept", False: "missed", None: "not run"}[found.ok],
        found.note,
    )
    return Table("Right-sizing", "The proposed limit, run under load.", ("limit", "saved", "p95", "SLO", "note"), (row,))


def _first(plan: CapacityPlan) -> Demand | None:
    return next((item for item in plan.demands if item.saturates_at_per_s is not None), None)


def _span(value: Estimate | None) -> str:
    if value is None:
        return UNKNOWN
    if value.low is None or value.high is None:
        return rate(value.value)
    return f"{rate(value.value)} ({digits(value.low)} to {digits(value.high)})"


def _each(item: Demand) -> str:
    if item.demand is None:
        return UNKNOWN
    if item.unit in ("bytes", "bytes/s"):
        return _amount(item.demand.value, "bytes")
    return f"{seconds(max(0.0, item.demand.value))} of {'one' if item.unit != 'cores' else 'a core'}"


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return UNKNOWN
    if unit in ("bytes", "bytes/s"):
        for name, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if abs(value) >= size:
                return f"{digits(value / size)} {name}{'/s' if unit == 'bytes/s' else ''}"
        return f"{digits(value)} B{'/s' if unit == 'bytes/s' else ''}"
    return f"{digits(value)} {unit.removesuffix('s') if value == 1 else unit}"


def _money(value: float | None) -> str:
    return UNKNOWN if value is None else f"${value:,.0f}" if value >= 100 else f"${value:,.2f}"


def _kept(option: Option) -> str:
    return {True: "kept", False: "missed", None: "unknown"}[option.keeps_slo]


def latency(plan: CapacityPlan, bound_ms: float | None) -> Markup:
    """p95 by rate: a dot for each window, the SLO as a line across, the highest rate that keeps it as a line down."""
    points = [(point.achieved_per_s, point.p95_s) for point in plan.points if point.ok and point.p95_s]
    if len(points) < 2:
        return Markup("")
    end = max(x for x, _ in points) * 1.08
    top = min(max(y for _, y in points), 3 * bound_ms / 1000 if bound_ms else float("inf")) * 1.1

    def at(x: float, y: float) -> tuple[float, float]:
        return LEFT + x / end * (RIGHT - LEFT), BOTTOM - min(1.0, y / top) * (BOTTOM - TOP)

    parts = [
        line(LEFT, at(0, level)[1], RIGHT, at(0, level)[1], "grid") + text(LEFT - 6, at(0, level)[1] + 4, seconds(level), "end")
        for level in (top / 3, top * 2 / 3)
    ]
    parts += [line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis"), text(RIGHT, BOTTOM + 18, f"{digits(end)} requests/s", "end")]
    if bound_ms:
        y = at(0, bound_ms / 1000)[1]
        parts += [line(LEFT, y, RIGHT, y, "zero"), text(LEFT + 4, y - 5, f"SLO {digits(bound_ms)} ms", "start")]
    if plan.rate_slo:
        x = at(plan.rate_slo.value, 0)[0]
        parts += [line(x, TOP, x, BOTTOM, "zero"), text(x - 4, TOP + 10, rate(plan.rate_slo.value), "end")]
    parts += [element("circle", element("title", f"{rate(x)}: p95 {seconds(y)}"), cx=at(x, y)[0], cy=at(x, y)[1], r=4.0, class_="dot") for x, y in points]
    return chart(WIDTH, HEIGHT, "p95 by rate", joined(parts))


def played(plan: CapacityPlan) -> list[tuple[str, Markup]]:
    """Arrivals and replicas over time of each simulation of the derived policy, and of the naive one."""
    return [(f"{run.scenario}: {run.policy}", _timeline(run)) for run in (plan.policy.simulated if plan.policy else ()) if len(run.timeline) > 2]


def _timeline(run: Simulated) -> Markup:
    width, height, bottom, top = 520, 130, 106, 10
    end = run.timeline[-1][0] or 1.0
    most = max(arrivals for _, arrivals, _ in run.timeline) or 1.0
    replicas = max(count for _, _, count in run.timeline) or 1.0

    def x(second: float) -> float:
        return LEFT + second / end * (RIGHT - LEFT)

    area = [(x(second), bottom - arrivals / most * (bottom - top)) for second, arrivals, _ in run.timeline]
    steps = [(x(second), bottom - count / replicas * (bottom - top)) for second, _, count in run.timeline]
    parts = [
        path([(float(LEFT), float(bottom)), *area, (float(RIGHT), float(bottom))], "area before", close=True),
        path(steps, "curve after"),
        line(LEFT, bottom, RIGHT, bottom, "axis"),
        text(LEFT - 6, top + 8, f"{digits(replicas)}", "end"),
        text(RIGHT, bottom + 18, f"{seconds(end)}, up to {rate(most)}", "end"),
    ]
    return chart(width, height, "Arrivals (area) and replicas (line)", joined(parts))
