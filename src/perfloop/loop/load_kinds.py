"""The load of each kind of test, and who judges it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from perfloop.capacity.usl import fit
from perfloop.errors import CannotMeasure, UsageError
from perfloop.load.analysis.scalability import judge_scalability, points
from perfloop.load.analysis.soak import judge_soak
from perfloop.load.analysis.spike import judge_spike
from perfloop.load.analysis.stress import judge_stress
from perfloop.load.analysis.volume import judge_volume
from perfloop.load.search import knee_slo, search_rate
from perfloop.load.summary import summarize
from perfloop.loop.load_shapes import (
    ceiling_per_s,
    closed,
    cores,
    error_rate_max,
    level_of,
    patience_s,
    rate_of,
    read_processes,
    repeatable,
    series,
    steady,
    thinned,
)
from perfloop.loop.measure import KNEE_START_PER_S, refuse_broken
from perfloop.loop.prepare import error_text_of
from perfloop.model.arrival import Stage
from perfloop.model.base import Estimate
from perfloop.model.event import Event, Told
from perfloop.model.limits import parse_duration_s
from perfloop.model.loadtest import Level, LoadKind, LoadTest, Measure, Reading
from perfloop.model.run import Window
from perfloop.model.verdict import VerdictStatus
from perfloop.validate.before_after import compare_summaries
from perfloop.validate.slo import check_slo

if TYPE_CHECKING:
    from perfloop.loop.loadtest import Test

Events = Generator[Event, None, Any]
LOAD_S, SPIKE_S, SOAK_S, PROBE_S, LEVEL_S = 30.0, 60.0, 1_800.0, 4.0, 8.0
PROBE_REQUESTS = 1_000  # a probe of a slow service is longer, up to PROBE_MAX_S, so that its p95 is worth something
PROBE_MAX_S = 10.0
PROBES_MAX = 8
BEFORE_SHARE, SPIKE_SHARE = 0.3, 0.2  # of a spike test: calm, spike, and the rest to come back
USERS = (1, 2, 4, 8, 16, 32)
SIZE_REPEATS, LEVEL_REPEATS = 2, 2


def load(test: Test) -> Events:
    """A steady load in several windows, against the SLO."""
    session = test.session
    rate = yield from rate_of(test)
    total_s = test.request.duration_s or LOAD_S
    windows = yield from steady(test, "load", rate, total_s)
    summary = summarize("load", windows)
    session.put(before=summary, before_windows=tuple(windows), rate_per_s=summary.rate_per_s)
    checks = check_slo(session.result.slo, summary)
    measures = [
        Measure(
            name=check.name,
            value=Estimate(value=check.measured, unit=check.unit, n=summary.windows) if check.measured is not None else None,
            bound=f"≤ {check.bound:g} {check.unit}",
            ok=check.ok,
        )
        for check in checks
    ]
    ok = (
        None if not checks or not summary.generator_ok else False if any(c.ok is False for c in checks) else None if any(c.ok is None for c in checks) else True
    )
    p95 = summary.total.p95_s
    level = f"p95 {p95.value * 1000:.3g} ms, {error_text_of(windows)}" if p95 else error_text_of(windows)
    missed = [check for check in checks if check.ok is False]
    state = (
        f"the SLO is missed ({', '.join(c.name for c in missed)})"
        if missed
        else "the SLO is kept"
        if ok
        else "no SLO is configured ([slo])"
        if not checks
        else "whether the SLO is kept is not decided: run it longer"
    )
    how = f"{test.request.users} users" if test.request.users else f"{rate:g} requests/s"
    return LoadTest(kind=LoadKind.LOAD, ok=ok, answer=f"at {how}: {level}; {state}", measures=tuple(measures), windows=tuple(windows))


def stress(test: Test) -> Events:
    """Probes of open load until the highest rate that keeps the SLO is known within 5 %, and what gives way above it."""
    session, meter = test.session, test.session.meter
    slo = session.result.slo
    start = test.request.rate_per_s or session.config.measure.rate_per_s or KNEE_START_PER_S
    if slo.latency_p95_ms is None and slo.latency_p99_ms is None:
        first = yield from meter.window("first", start, PROBE_S)
        slo = knee_slo(first)
        session.note(f"no latency is promised ([slo]): the break is where p95 leaves {slo.latency_p95_ms or 0:.3g} ms")
    seen: dict[float, Window] = {}

    def probe(rate_per_s: float) -> Generator[Event, None, Window]:
        duration_s = test.request.duration_s or min(PROBE_MAX_S, max(PROBE_S, PROBE_REQUESTS / rate_per_s))
        window = yield from meter.window(f"{rate_per_s:.0f}/s", rate_per_s, duration_s, len(seen) + 1, patience_s(meter, slo.latency_p95_ms))
        seen[rate_per_s] = window
        yield from meter.calm(start)
        return window

    ceiling = yield from ceiling_per_s(test)
    found = yield from search_rate(probe, slo, start_per_s=start, max_per_s=session.config.limits.rate_max_per_s, probes_max=PROBES_MAX, ceiling_per_s=ceiling)
    session.put(throughput_before=found)
    return judge_stress(found, seen, slo, test.request.need_per_s, cores(meter))


def spike(test: Test) -> Events:
    """A calm stretch, a jump to several times the rate, and the calm rate again until it has come back."""
    session, meter = test.session, test.session.meter
    rate = yield from rate_of(test)
    total_s = test.request.duration_s or SPIKE_S
    before_s, spike_s = round(BEFORE_SHARE * total_s, 1), round(SPIKE_SHARE * total_s, 1)
    high = rate * test.request.factor
    if high > session.config.limits.rate_max_per_s:
        raise UsageError(
            f"the spike of {high:g}/s is above limits.rate_max_per_s = {session.config.limits.rate_max_per_s:g}",
            fix="lower --factor or the rate, or raise the limit",
        )
    stages = (
        Stage(duration_s=before_s, level=rate, step=True),
        Stage(duration_s=spike_s, level=high, step=True),
        Stage(duration_s=total_s - before_s - spike_s, level=rate, step=True),
    )
    workload = meter.workload(rate, total_s, 1).with_(rate_per_s=0.0, stages=stages, error_rate_stop=1.0)
    window = yield from meter.sent("spike", workload)
    return judge_spike(window, before_s, before_s + spike_s, test.request.factor, parse_duration_s(test.request.recovery), error_rate_max(test))


def soak(test: Test) -> Events:
    """The same load for long, with what the processes hold read every second."""
    session, meter = test.session, test.session.meter
    rate = yield from rate_of(test)
    readings: list[Reading] = []
    started = time.monotonic()
    events = steady(test, "soak", rate, test.request.duration_s or SOAK_S, windows_max=1)
    last = -1.0
    while True:
        try:
            event = next(events)
        except StopIteration as stop:
            windows: list[Window] = stop.value
            break
        now = time.monotonic() - started
        if now - last >= 1.0:
            last = now
            readings += read_processes(meter, now)
        yield event
    session.put(before=summarize("soak", windows), before_windows=tuple(windows), rate_per_s=rate)
    if not readings:
        session.note("the service's processes are not visible from here: memory, threads, files and connections were not read")
    return judge_soak(windows, thinned(readings), error_rate_max(test))


def volume(test: Test) -> Events:
    """For each size of the data: prepare it, send one request after another, remove it; then the exponent of cost against size."""
    session = test.session
    sizes = test.request.levels
    if len(sizes) < 3:
        raise UsageError("a volume test needs three sizes or more", fix="--levels 1000,10000,100000")
    if "{size}" not in session.config.hooks.set_up:
        raise UsageError(
            "a volume test must know how to make data of a size", why="hooks.set_up holds no {size}", fix='set_up = "python seed.py {size}" under [hooks]'
        )
    levels: list[Level] = []
    windows: list[Window] = []
    for size in sizes:
        with test.data(size):
            for number in range(-1, SIZE_REPEATS):
                window = yield from closed(test, f"size {size:,}", 1, (test.request.duration_s or LEVEL_S) / (SIZE_REPEATS + 1))
                refuse_broken(window)
                if number >= 0:  # the first one warms caches
                    windows.append(window)
                    levels.append(level_of(size, window))
        yield Told(text=f"size {size:,}: mean {(levels[-1].mean_s or 0) * 1000:.3g} ms a request")
        session.put(load_test=LoadTest(kind=LoadKind.VOLUME, levels=tuple(levels)))
    return judge_volume(levels).with_(windows=tuple(windows))


def scalability(test: Test) -> Events:
    """Closed users without think time at each level: throughput against concurrency, raw points for the scalability law."""
    session = test.session
    users = test.request.levels or USERS
    if max(users) > 50_000:
        raise UsageError(f"{max(users)} users are above 50,000", fix="lower --levels")
    levels: list[Level] = []
    windows: list[Window] = []
    sized = "{size}" in session.config.hooks.set_up
    for count in sorted(users):
        clients = max(users) if sized else count
        for _ in range(LEVEL_REPEATS):
            if sized:  # the level is the number of workers that set_up starts; the users stay the same
                with test.data(count):
                    window = yield from closed(test, f"level {count}", clients, (test.request.duration_s or LEVEL_S) / LEVEL_REPEATS)
            else:
                window = yield from closed(test, f"{count} users", clients, (test.request.duration_s or LEVEL_S) / LEVEL_REPEATS)
            windows.append(window)
            levels.append(level_of(count, window))
        yield Told(text=f"{count}: {levels[-1].throughput_per_s:.0f} requests/s")
        session.put(load_test=LoadTest(kind=LoadKind.SCALABILITY, levels=tuple(levels)))
    raw = points(levels)
    session.put(capacity=fit(raw))
    session.meter.points += raw
    return judge_scalability(levels, session.result.slo).with_(windows=tuple(windows))


def baseline(test: Test) -> Events:
    """The configured windows of steady load, stored under a name."""
    session = test.session
    rate = yield from rate_of(test)
    windows = yield from series(test, rate)
    summary = summarize("baseline", windows)
    session.put(before=summary, before_windows=tuple(windows), rate_per_s=rate)
    if not summary.generator_ok:
        return LoadTest(kind=LoadKind.BASELINE, answer="the generator was late: nothing was stored", windows=tuple(windows))
    session.store.set_baseline(test.request.name, session.result.run_id)
    p95 = summary.total.p95_s
    return LoadTest(
        kind=LoadKind.BASELINE,
        ok=True,
        answer=f"baseline {test.request.name}: p95 {p95.value * 1000 if p95 else 0:.3g} ms at {rate:g} requests/s over {summary.windows} windows",
        measures=(Measure(name="p95", value=p95),),
        windows=tuple(windows),
    )


def regression(test: Test) -> Events:
    """The load of a named baseline again, and the comparison with it."""
    session = test.session
    if not repeatable(test):
        raise UsageError(
            "this load cannot be compared with an earlier one",
            why="its requests change data, and nothing puts it back",
            fix="set hooks.reset, or repeatable = true for the journeys that leave the same state",
        )
    before = session.store.load_result(f"baseline:{test.request.name}")
    if before.before is None:
        raise UsageError(f"the baseline {test.request.name} holds no measurement", fix=f"perfloop load --kind baseline --name {test.request.name}")
    session.config = session.config.with_(
        measure=session.config.measure.with_(windows=before.before.windows, window_s=before.before.window_s, rate_per_s=before.rate_per_s)
    )
    windows = yield from series(test, before.rate_per_s)
    summary = summarize("regression", windows)
    session.put(before=summary, before_windows=tuple(windows), rate_per_s=before.rate_per_s)
    verdict = compare_summaries(before.before, summary)
    if verdict.status == VerdictStatus.INVALID:
        raise CannotMeasure(
            f"this run cannot be compared with the baseline {test.request.name}", why=verdict.reason, fix="perfloop load --kind baseline makes a new one"
        )
    harmed = [guard for guard in verdict.guards if not guard.ok]
    ok = False if verdict.status == VerdictStatus.REGRESSED or harmed else None if verdict.status == VerdictStatus.INCONCLUSIVE else True
    ratio = verdict.ratio
    span = f" × {ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})" if ratio and ratio.low is not None and ratio.high is not None else ""
    worse = f"; worse: {', '.join(guard.metric for guard in harmed)}" if harmed else ""
    return LoadTest(
        kind=LoadKind.REGRESSION,
        ok=ok,
        answer=f"against {test.request.name}: {verdict.metric}{span}: {verdict.status}{worse}",
        measures=(Measure(name="p95 against the baseline", value=ratio, ok=ok, note=verdict.reason),),
        verdict=verdict,
        windows=tuple(windows),
    )


Kind = Callable[["Test"], Generator[Event, None, LoadTest]]
KINDS: dict[LoadKind, tuple[Kind, str]] = {
    LoadKind.LOAD: (load, "a steady load against the SLO"),
    LoadKind.STRESS: (stress, "the highest rate that keeps the SLO, and what gives way above it"),
    LoadKind.SPIKE: (spike, "a jump of the load, and the way back"),
    LoadKind.SOAK: (soak, "the same load for long: what drifts, what leaks"),
    LoadKind.VOLUME: (volume, "the cost of a request against the size of the data"),
    LoadKind.SCALABILITY: (scalability, "throughput against concurrent users"),
    LoadKind.BASELINE: (baseline, "a named reference"),
    LoadKind.REGRESSION: (regression, "the load of a baseline again, compared with it"),
}
#: kinds whose levels may be sizes that hooks.set_up prepares one by one
SIZED = frozenset((LoadKind.VOLUME, LoadKind.SCALABILITY))
