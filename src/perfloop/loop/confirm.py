"""Runs the experiment that would refute a finding, within bounds: at most 8 s and 400 requests each, GET steps only."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perfloop.errors import PerfloopError, UndoFailed
from perfloop.loop import sweep
from perfloop.loop.cpu_less import Compete, cpu_less
from perfloop.loop.slope import TapInPlace, delay_slope
from perfloop.model.base import Estimate
from perfloop.model.event import Event, Told
from perfloop.model.evidence import ExperimentResult, SoloObservation
from perfloop.model.finding import Finding
from perfloop.model.journey import Step
from perfloop.model.run import StepSamples, Window
from perfloop.stats.histogram import Histogram
from perfloop.store.audit import AuditLog

EXPERIMENT_MAX_S = 8.0
REQUESTS_MAX = 400
EXPERIMENTS_MAX = 6
LEFT_MIN_S = 15.0  # less of the run's budget is not spent on experiments
REPEAT_PATHS_MAX = 3
REPEATS = 5
NOOP_RATE_PER_S = 20.0
BUSY_SHARE = 0.4  # of the time that the suspect is at work beside the cheap request


@dataclass(frozen=True)
class ConfirmTools:
    """What experiments may use of the target.

    ``solo(step, requests_max, duration_max_s)``: a step alone, with sockets, without stacks. ``window(steps, rate_per_s, duration_s)``: open load.
    ``memory()``: resident bytes of all processes. ``what_if(query, ddl)``: plan cost before and after, and a note; None where there is no twin.
    ``compete(burst_s, rest_s)``: how often longer such a burst takes with CPU taken away, how it is taken, and what takes it while it is entered; None where the service may not be disturbed.
    ``tap(peer, address)``: one that is in place before that dependency; None where the configuration names no place for any. ``alone``: as ``solo``, without any probe.
    ``parameters``: integer query parameters of each step beyond those in its paths, with their defaults. ``rate_per_s``: of the look.
    """

    steps: tuple[Step, ...]
    rate_per_s: float
    solo: Callable[[Step, int, float], SoloObservation]
    window: Callable[[tuple[Step, ...], float, float], Window]
    memory: Callable[[], int]
    what_if: Callable[[str, str], tuple[float, float, str]] | None = None
    compete: Compete | None = None
    parameters: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    tap: Callable[[str, str], TapInPlace] | None = None
    alone: Callable[[Step, int, float], StepSamples] | None = None

    def step(self, name: str) -> Step | None:
        """The step of that name, where it is one that may be sent at will (GET)."""
        return next((step for step in self.steps if step.name == name and step.method == "GET"), None)


def confirm_all(findings: Sequence[Finding], tools: ConfirmTools, audit: AuditLog, left_s: float) -> Generator[Event, None, tuple[ExperimentResult, ...]]:
    """The experiments of the findings in their order, each once, at most six and while time is left; each is in the audit log. One that fails tells nothing."""
    deadline = time.monotonic() + left_s - LEFT_MIN_S
    results: list[ExperimentResult] = []
    done: set[tuple[str, str]] = set()
    for finding in findings:
        if finding.experiment is None or len(results) >= EXPERIMENTS_MAX or time.monotonic() >= deadline:
            continue
        key = (finding.rule, subject_of(finding))
        if key in done:
            continue
        done.add(key)
        for experiment in (finding.experiment, finding.experiment.otherwise):
            if experiment is None or (experiment.kind == "delay-slope" and tools.tap is None):
                continue
            one = finding.with_(experiment=experiment)
            if experiment.kind in _ANNOUNCED:
                yield Told(text=f"experiment for {finding.rule}: {_ANNOUNCED[experiment.kind]}")
            results.append(_audited(one, tools, audit))
            yield _told(results[-1])
            if results[-1].supports is not None:
                break
    return tuple(results)


def _audited(finding: Finding, tools: ConfirmTools, audit: AuditLog) -> ExperimentResult:
    """One experiment, between its two lines of the audit log."""
    assert finding.experiment is not None
    operation = audit.begin(
        operation="experiment", command=f"{finding.experiment.kind}: {finding.experiment.refutes}", note=f"for {finding.rule}: {finding.title}"
    )
    try:
        result = confirm(finding, tools)
    except BaseException as error:
        audit.end(operation, "failure", error_detail=str(error) or type(error).__name__)
        if not isinstance(error, PerfloopError) or isinstance(error, UndoFailed):
            raise
        return _result(finding, note=f"could not be run: {error}")
    audit.end(operation, "success", note=result.note)
    return result


def _told(result: ExperimentResult) -> Told:
    level = {True: "warning", False: "good", None: "info"}[result.supports]
    word = {True: "confirmed", False: "ruled out", None: "not told"}[result.supports]
    return Told.model_validate({"level": level, "text": f"{result.rule} {word} by {result.kind}: {result.note}"})


def confirm(finding: Finding, tools: ConfirmTools) -> ExperimentResult:
    """Run the experiment of one finding; ``supports`` None where it cannot be run here or does not tell, with the reason in ``note``."""
    experiment = finding.experiment
    if experiment is None or experiment.kind not in _KINDS:
        return _result(finding, note="there is no such experiment")
    return _KINDS[experiment.kind](finding, tools)


def subject_of(finding: Finding) -> str:
    """What the experiment is about, by which rules find its result again."""
    return str(finding.experiment.params.get("subject", "")) if finding.experiment else ""


def _params(finding: Finding) -> dict[str, Any]:
    return finding.experiment.params if finding.experiment else {}


def _result(finding: Finding, **fields: Any) -> ExperimentResult:
    kind = finding.experiment.kind if finding.experiment else ""
    return ExperimentResult(kind=kind, rule=finding.rule, subject=subject_of(finding), **fields)


def _size_sweep(finding: Finding, tools: ConfirmTools) -> ExperimentResult:
    params = _params(finding)
    step = tools.step(str(params.get("step", "")))
    if step is None:
        return _result(finding, note="the endpoint is not a GET of this load")
    measure = str(params.get("measure", "time"))
    known = tools.parameters.get(step.name, {})
    deadline = time.monotonic() + EXPERIMENT_MAX_S
    swept, supports, estimate, note = sweep.best(step, known, measure, float(params.get("exponent_min", 1.25)), tools.solo, deadline)
    if swept is None:
        return _result(finding, note=note)
    unit = "s" if measure == "time" else "round trips per request"
    return _result(finding, x=swept.sizes, y=swept.values, x_unit=swept.knob.name, y_unit=unit, estimate=estimate, supports=supports, note=note)


def _repeat_same(finding: Finding, tools: ConfirmTools) -> ExperimentResult:
    """The same request again and again; then, where that got cheap, all requests of the step twice over: a cache too small for them misses again."""
    params = _params(finding)
    step = tools.step(str(params.get("step", "")))
    spent_s, solo_s = float(params.get("spent_s", 0.0)), float(params.get("solo_s", 0.0))
    if step is None or spent_s <= 0:
        return _result(finding, note="the endpoint is not a GET of this load")
    deadline = time.monotonic() + EXPERIMENT_MAX_S
    bound_s = solo_s - 0.5 * spent_s  # with the cache hit, a request costs about solo_s - spent_s
    means: list[float] = []
    for path in step.paths[:REPEAT_PATHS_MAX]:
        one = step.with_(paths=(path,))
        tools.solo(one, 1, _left(deadline, 2.0))
        means.append(sweep.latency(tools.solo(one, REPEATS, _left(deadline, 2.0))))
    again = sum(means) / len(means)
    text = f"the same request takes {again * 1000:.1f} ms when repeated; different ones took {solo_s * 1000:.1f} ms"
    points: dict[str, Any] = {"x": (0.0, 1.0), "y": (solo_s, again), "x_unit": "repeated", "y_unit": "s"}
    if again >= bound_s:
        return _result(finding, supports=True, note=text + ": no cheaper", **points)
    few = step.with_(paths=step.paths[: min(100, int(2.5 / max(solo_s, 1e-3)))] or step.paths[:1])
    if len(few.paths) < 4:
        return _result(finding, supports=False, note=text, **points)
    tools.solo(few, len(few.paths), _left(deadline, 3.0))
    second = sweep.latency(tools.solo(few, len(few.paths), _left(deadline, 3.0)))
    text += f"; the second time round {len(few.paths)} different ones, {second * 1000:.1f} ms each"
    return _result(finding, supports=second >= bound_s, note=text, **points)


def _left(deadline: float, most_s: float) -> float:
    return max(0.2, min(most_s, deadline - time.monotonic()))


def _rate_double(finding: Finding, tools: ConfirmTools) -> ExperimentResult:
    """Memory after a window at the rate, and after one at twice the rate: a leak grows with the requests, a heap that fills once does not."""
    steps = tuple(step for step in tools.steps if step.method == "GET")
    if not steps:
        return _result(finding, note="the load has no GET requests")
    duration_s = (EXPERIMENT_MAX_S - 1) / 2
    rate = min(tools.rate_per_s, REQUESTS_MAX / (3 * duration_s))
    before = tools.memory()
    first = tools.window(steps, rate, duration_s)
    middle = tools.memory()
    second = tools.window(steps, 2 * rate, duration_s)
    after = tools.memory()
    counts = [sum(step.ok for step in window.steps) for window in (first, second)]
    if min(counts) < 10:
        return _result(finding, note=f"only {counts[0]} and {counts[1]} requests were answered")
    grown = ((middle - before) / counts[0], (after - middle) / counts[1])
    expected = float(_params(finding).get("bytes_per_request", 0.0))
    note = f"{grown[0] / 1000:.1f} kB per request at {rate:.1f}/s ({counts[0]} requests), {grown[1] / 1000:.1f} kB at {2 * rate:.1f}/s ({counts[1]})"
    supports: bool | None = None
    if grown[1] >= 0.5 * expected and grown[1] > 0:
        supports = True
    elif grown[1] < 0.2 * expected:
        supports = False
    points = {"x": tuple(float(count) for count in counts), "y": (float(middle - before), float(after - middle)), "x_unit": "requests", "y_unit": "bytes"}
    return _result(
        finding, supports=supports, note=note, estimate=Estimate(value=grown[1], n=counts[1], unit="bytes per request", source="rate-double"), **points
    )


def _noop_beside(finding: Finding, tools: ConfirmTools) -> ExperimentResult:
    """A cheap request alone, then beside the suspect."""
    busy = tools.step(str(_params(finding).get("step", "")))
    others = [step for step in tools.steps if step.method == "GET" and busy is not None and step.name != busy.name]
    if busy is None or not others:
        return _result(finding, note="the load has no other GET request to send beside it")
    quiet = {step.name: sweep.latency(tools.solo(step, 8, 0.5)) for step in others[:5]}
    quiet = {name: value for name, value in quiet.items() if value > 0}
    busy_s = sweep.latency(tools.solo(busy, 8, 1.5))
    if not quiet or busy_s <= 0:
        return _result(finding, note="one of the requests was not answered")
    name = min(quiet, key=lambda key: quiet[key])
    noop = next(step for step in others if step.name == name)
    busy_rate = min(20.0, BUSY_SHARE / busy_s)
    rate = NOOP_RATE_PER_S + busy_rate
    pair = (noop.with_(weight=NOOP_RATE_PER_S / rate), busy.with_(weight=busy_rate / rate))
    window = tools.window(pair, rate, min(4.0, REQUESTS_MAX / rate))
    beside = _mean(next((item for item in window.steps if item.name == name), None))
    if beside is None:
        return _result(finding, note=f"{name} was not answered beside {busy.name}")
    delay = beside - quiet[name]
    note = f"{name} takes {quiet[name] * 1000:.1f} ms alone and {beside * 1000:.1f} ms beside {busy.name} ({busy_s * 1000:.0f} ms, {busy_rate:.1f}/s)"
    # a block of b at a share of 0.4 delays a random arrival by 0.2 b on average
    supports = True if delay >= max(0.1 * busy_s, 0.003) else False if delay <= 0.03 * busy_s else None
    return _result(finding, x=(0.0, busy_rate), y=(quiet[name], beside), x_unit="requests/s beside", y_unit="s", supports=supports, note=note)


def _mean(samples: StepSamples | None) -> float | None:
    histogram = Histogram.from_data(samples.latency) if samples else Histogram()
    return histogram.mean() if histogram.count else None


def _cpu_less(finding: Finding, tools: ConfirmTools) -> ExperimentResult:
    """Take CPU away: ``loop/cpu_less.py``."""
    if tools.compete is None:
        return _result(finding, note="the service may not be disturbed here, or perfloop may not take CPU from it")
    return cpu_less(finding, tools.step(str(_params(finding).get("step", ""))), tools.compete, tools.solo, _result)


def _setting_double(finding: Finding, tools: ConfirmTools) -> ExperimentResult:
    """Doubling a pool or the workers restarts the service: that is a change, which ``improve`` tries and proves; a check only says so."""
    return _result(finding, note="this needs a change of a setting and a restart: perfloop improve tries it and proves it, where the setting is configured")


def _delay_slope(finding: Finding, tools: ConfirmTools) -> ExperimentResult:
    """Delay every round trip to a dependency: ``loop/slope.py``."""
    params = _params(finding)
    if tools.tap is None:
        return _result(finding, note="the configuration names no place for a tap: [[target.taps]]")
    tap = tools.tap(str(params.get("peer", "")), str(params.get("address", "")))
    alone = tools.alone or (lambda step, requests, longest_s: tools.solo(step, requests, longest_s).samples)
    return delay_slope(finding, tools.step(str(params.get("step", ""))), tap, alone, _result)


def _twin_index(finding: Finding, tools: ConfirmTools) -> ExperimentResult:
    """Plan the query in a planner's twin, without and with the index."""
    params = _params(finding)
    if tools.what_if is None:
        return _result(finding, note="there is no planner twin here")
    before, after, detail = tools.what_if(str(params.get("query", "")), str(params.get("ddl", "")))
    supports = True if after <= 0.5 * before else False if after >= 0.95 * before else None
    note = f"plan cost {before:,.0f} without and {after:,.0f} with the index" + (f"; {detail}" if detail else "")
    return _result(finding, x=(0.0, 1.0), y=(before, after), x_unit="index", y_unit="plan cost", supports=supports, note=note)


_KINDS: dict[str, Callable[[Finding, ConfirmTools], ExperimentResult]] = {
    "size-sweep": _size_sweep,
    "repeat-same": _repeat_same,
    "rate-double": _rate_double,
    "noop-beside": _noop_beside,
    "twin-index": _twin_index,
    "cpu-less": _cpu_less,
    "setting-double": _setting_double,
    "delay-slope": _delay_slope,
}
_ANNOUNCED = {
    "delay-slope": "a tap goes between the service and its dependency (restarts), and holds back each round trip by up to 50 ms",
    "cpu-less": "a competitor or a quota takes CPU from the service for some seconds",
    "rate-double": "the load is doubled for some seconds",
}
