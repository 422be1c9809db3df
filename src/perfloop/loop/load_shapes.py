"""The loads that the kinds of test are made of, and what is read beside them."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TYPE_CHECKING

from perfloop.errors import CannotMeasure, UsageError
from perfloop.host.command import run_command
from perfloop.host.procfs import fd_count, read_stat, socket_count
from perfloop.load.merge import merge_steps
from perfloop.loop.measure import KNEE_START_PER_S, Meter, refuse_broken
from perfloop.model.event import Event, Told
from perfloop.model.journey import Workload
from perfloop.model.loadtest import HookRun, Level, LoadTest, Reading
from perfloop.model.run import Window
from perfloop.stats.histogram import Histogram

if TYPE_CHECKING:
    from perfloop.loop.loadtest import Test

CEILING_USERS, CEILING_S = 64, 3.0
WINDOWS = 5
CLOSED_MIN_S = 1.0


def rate_of(test: Test) -> Generator[Event, None, float]:
    """The rate asked for, else the configured one, else half of the measured knee; within the limit."""
    session = test.session
    rate = session.config.measure.rate_per_s
    if test.request.users or test.request.replay or (test.source is not None and test.source.tool):
        return 0.0
    if rate is None:
        knee = yield from session.meter.knee()
        if knee.rate_per_s is None:
            raise CannotMeasure(
                "no rate could be found that the service keeps up with",
                why="the lowest probe already failed",
                fix="set --rate-per-s, and look at the service's errors",
            )
        rate = max(0.5, knee.rate_per_s / 2)
        yield Told(text=f"the knee is at {knee.rate_per_s:.0f} requests/s: testing at half of it, {rate:.0f}")
    if rate > session.config.limits.rate_max_per_s:
        raise UsageError(
            f"{rate:g} requests/s are above limits.rate_max_per_s = {session.config.limits.rate_max_per_s:g}", fix="lower the rate, or raise the limit"
        )
    return rate


def steady(test: Test, label: str, rate_per_s: float, total_s: float, windows_max: int = WINDOWS) -> Generator[Event, None, list[Window]]:
    """Windows of the same load that last ``total_s`` together, after the ramp-up: open at a rate, or closed users."""
    session, request = test.session, test.request
    meter = session.meter
    by_tool = test.source is not None and bool(test.source.tool)
    if request.ramp_up_s and not by_tool:
        yield from meter.sent("ramp-up", _shape(test, rate_per_s, request.ramp_up_s, 0).with_(ramp_up_s=request.ramp_up_s))
    if by_tool and not request.users and not request.duration:
        total_s = max(10.0, meter.left_s)  # a k6 script says itself how long
    count = 1 if request.replay or by_tool else max(1, min(windows_max, int(total_s // 3)))
    windows: list[Window] = []
    for number in range(count):
        if number:
            reset(test)
        window = yield from meter.sent(label, _shape(test, rate_per_s, total_s / count, number + 1))
        windows.append(window)
        session.put(load_test=LoadTest(kind=request.kind, answer="not finished", windows=tuple(windows)))
        refuse_broken(window)
        if window.stopped_early:
            raise CannotMeasure(f"the load was stopped: {window.stopped_early}", fix="the service must answer most requests; see its log")
    return windows


def _shape(test: Test, rate_per_s: float, duration_s: float, seed: int) -> Workload:
    meter = test.session.meter
    workload = meter.workload(rate_per_s or 1.0, duration_s, seed)
    if test.request.replay and test.source is not None:
        return test.source.of(workload, duration_s, meter.config.limits.rate_max_per_s)
    if not test.request.users:
        return workload
    users = test.request.users
    ramp_up_s = test.request.ramp_up_s if test.source is not None and test.source.tool else 0.0  # a tool ramps up by itself
    changed: Workload = workload.with_(rate_per_s=0.0, ramp_up_s=ramp_up_s, users=users, connections_max=max(users, meter.config.measure.connections_max))
    return changed


def reset(test: Test) -> None:
    """Puts the data back between two windows by ``hooks.reset``; ``CannotMeasure`` where it fails."""
    hooks = test.session.config.hooks
    if not hooks.reset:
        return
    started = time.monotonic()
    done = run_command(hooks.reset, cwd=test.session.base_dir, timeout_s=hooks.timeout_s)
    test.hooks.append(HookRun(name="reset", command=hooks.reset, exit_code=done.returncode, duration_s=round(time.monotonic() - started, 3)))
    if not done.ok:
        raise CannotMeasure(
            f"the data could not be put back: {hooks.reset}", why=(done.stderr or done.stdout).strip()[-300:], fix="run it by hand and correct it"
        )


def series(test: Test, rate_per_s: float) -> Generator[Event, None, list[Window]]:
    """The configured windows after a warm-up, as a baseline has them."""
    meter, measure = test.session.meter, test.session.config.measure
    if measure.warmup_s:
        yield from meter.window("warm-up", rate_per_s, measure.warmup_s, seed=0)
    return (yield from meter.series(test.request.kind.value, rate_per_s, measure.windows, measure.window_s, first_seed=1))


def closed(test: Test, label: str, users: int, duration_s: float) -> Generator[Event, None, Window]:
    """One window of closed users without think time."""
    meter = test.session.meter
    workload = meter.workload(1.0, max(CLOSED_MIN_S, duration_s), 1).with_(rate_per_s=0.0, users=users, connections_max=max(users, 1), error_rate_stop=1.0)
    return (yield from meter.sent(label, workload))


def ceiling_per_s(test: Test) -> Generator[Event, None, float]:
    """About what the service can do at most, by a short window of closed users: it chooses where a search probes."""
    window = yield from closed(test, "ceiling", CEILING_USERS, CEILING_S)
    ok = sum(step.ok for step in window.steps)
    yield from test.session.meter.calm(KNEE_START_PER_S)
    return ok / window.duration_s


def level_of(x: float, window: Window) -> Level:
    """One window as a point of a series."""
    total = merge_steps("total", window.steps)
    latency = Histogram.from_data(total.latency)
    rate = total.ok / window.duration_s if window.duration_s else 0.0
    mean = latency.mean() if latency.count else None
    return Level(
        x=x,
        throughput_per_s=rate,
        mean_s=mean,
        p95_s=latency.quantile(0.95),
        error_rate=(total.sent - total.ok) / total.sent if total.sent else 0.0,
        concurrency=rate * mean if mean else None,
    )


def read_processes(meter: Meter, at_s: float) -> list[Reading]:
    """What the service's processes hold now, added up; nothing for a service that is not here."""
    totals = {"memory_bytes": 0, "threads": 0, "files": 0, "connections": 0}
    seen = 0
    for pid in meter.pids:
        try:
            stat = read_stat(pid)
            held = (stat.rss_bytes, stat.threads, fd_count(pid), socket_count(pid))
        except CannotMeasure:
            continue  # a process that ended between two looks, or another user's
        seen += 1
        for name, value in zip(totals, held, strict=True):
            totals[name] += value
    return [Reading(at_s=at_s, name=name, value=value) for name, value in totals.items()] if seen else []


def thinned(readings: list[Reading], kept_max: int = 4 * 3_600) -> list[Reading]:
    """At most as many readings as are stored, evenly: every n-th round of them."""
    rounds = sorted({reading.at_s for reading in readings})
    every = max(1, -(-len(readings) // kept_max))
    chosen = set(rounds[::every])
    return [reading for reading in readings if reading.at_s in chosen]


def cores(meter: Meter) -> float | None:
    """Cores that the service may use: its control group's limit, else those it is pinned to; None where its processes are not visible."""
    found: list[float] = []
    for process in meter.target.processes:
        limits = [float(len(process.cpus))] if process.cpus else []
        limits += [process.cpu_limit_cores] if process.cpu_limit_cores else []
        if limits:
            found.append(min(limits))
    return max(found) if found else None


def patience_s(meter: Meter, latency_p95_ms: float | None) -> float:
    """How long a probe's request may take: waiting on for what has missed the SLO anyway only fills queues."""
    return min(meter.config.measure.timeout_s, max(1.0, 4 * latency_p95_ms / 1000)) if latency_p95_ms else meter.config.measure.timeout_s


def error_rate_max(test: Test) -> float:
    """The share of errors that is promised, else 1 %."""
    promised = test.session.result.slo.error_rate_max
    return 0.01 if promised is None else promised


def repeatable(test: Test) -> bool:
    """False where requests change data and nothing puts it back; what a script in Python does is not known, so it counts as changing."""
    config = test.session.config
    if config.hooks.reset:
        return True
    if test.source is not None and test.source.journeys is not None:
        steps = [*test.source.journeys.steps, *(step for journey in test.source.journeys.journeys for step in journey.steps)]
        return all(step.method in ("GET", "HEAD") for step in steps)
    if test.source is not None:
        return False
    if config.target.allow_writes and any((j.sql or j.command or j.steps) and not j.repeatable for j in config.journeys):
        return False  # what statements and commands do to the data is not looked at
    return not [j for j in config.journeys if j.methods - {"GET", "HEAD"} and not j.repeatable]
