"""Windows of load on the target, with the service's CPU time beside them and a running estimate for whoever watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from types import ModuleType

from perfloop.errors import CannotMeasure
from perfloop.host.machine import steal_seconds
from perfloop.host.processes import allowed_cpus, cpu_seconds, descendants, start_time_s, tree_cpu_seconds
from perfloop.load.engines import http
from perfloop.load.run import Progress, run_window
from perfloop.load.search import knee_slo, search_rate
from perfloop.loop.held import Held, memory_of
from perfloop.model.arrival import Timeouts, Tls
from perfloop.model.base import Estimate
from perfloop.model.config import Config
from perfloop.model.event import Event, PhaseStarted, RunningEstimate, Told
from perfloop.model.journey import Journey, Step, Workload
from perfloop.model.limits import is_store
from perfloop.model.result import Slo
from perfloop.model.run import RateSearch, Window
from perfloop.model.target import Target
from perfloop.stats.histogram import Histogram
from perfloop.stats.intervals import geometric_t_interval

KNEE_START_PER_S = 8.0
#: share of a window's requests that may fail before there is no verdict
ERROR_SHARE_MAX = 0.5
PROBE_S = 3.0
PROBES_MAX = 4
#: a request that takes longer than this many times the promised p95 has missed it; waiting on only fills the service's queues
PATIENCE = 4.0
CALM_WINDOW_S, CALM_MAX_S, CALM_FACTOR = 1.0, 20.0, 1.5


@dataclass
class Meter:
    """Sends load to one target and counts what comes back. ``target`` is replaced when a restart gave the service a new process."""

    config: Config
    target: Target
    steps: tuple[Step, ...]
    headers: tuple[tuple[str, str], ...]
    deadline: float  # monotonic: the end of the whole run
    journeys: tuple[Journey, ...] = ()
    run_id: str = ""
    engine: ModuleType = http  # what sends: our own, or one on other machines
    store: dict[str, object] = field(default_factory=dict, repr=False)  # of a database or cache: dsn, writes_allowed
    reshape: Callable[[Workload], Workload] | None = None  # requests or a script of a file instead of the configured ones
    watch: Callable[[str, Progress], None] = lambda _label, _progress: None  # sees each window once a second, by its label; raises to end it at once
    points: list[tuple[float, float]] = field(default_factory=list)  # (concurrency, requests/s) of every ok rate probe

    @property
    def pids(self) -> tuple[int, ...]:
        """The service's processes now, children included."""
        seen: dict[int, None] = {}
        for process in self.target.processes:
            for pid in (process.pid, *descendants(process.pid)):
                seen[pid] = None
        return tuple(seen)

    @property
    def generator_cpus(self) -> tuple[int, ...]:
        """Cores that no process of the service is pinned to, so that load and service do not share them."""
        theirs = {cpu for process in self.target.processes for cpu in process.cpus}
        return tuple(cpu for cpu in sorted(allowed_cpus()) if cpu not in theirs)

    @property
    def generator_cpu(self) -> int | None:
        """The last of these cores; None where there is none."""
        return self.generator_cpus[-1] if self.generator_cpus else None

    def workload(self, rate_per_s: float, duration_s: float, seed: int) -> Workload:
        """The configured steps at this rate; the same seed gives the same schedule."""
        measure, target = self.config.measure, self.config.target
        workload = Workload(
            base_url=self.target.url,
            run_id=self.run_id,
            steps=self.steps,
            journeys=self.journeys,
            rate_per_s=rate_per_s,
            duration_s=duration_s,
            seed=seed,
            timeout_s=measure.timeout_s,
            connections_max=measure.connections_max,
            headers=self.headers,
            http_version=target.http_version,
            ca_file=target.ca_file,
            tls=Tls(cert_file=target.cert_file, key_file=target.key_file),
            timeouts=Timeouts(connect_s=measure.connect_timeout_s, first_byte_s=measure.first_byte_timeout_s),
            source_addresses=measure.source_addresses,
            workers=measure.generator_processes,
            cpu=self.generator_cpu,
            cpus=self.generator_cpus,
            error_rate_stop=self.config.limits.error_rate_stop,
        )
        workload = workload.with_(**self.store)
        return self.reshape(workload) if self.reshape else workload

    def window(self, label: str, rate_per_s: float, duration_s: float, seed: int = 1, timeout_s: float | None = None) -> Generator[Event, None, Window]:
        """One window of open load at this rate. ``CannotMeasure`` where the service died during it."""
        return (yield from self.sent(label, self.workload(rate_per_s, duration_s, seed).with_(timeout_s=timeout_s or self.config.measure.timeout_s)))

    def sent(self, label: str, workload: Workload) -> Generator[Event, None, Window]:
        """One window of this workload. ``CannotMeasure`` where the service died during it."""
        pids = self.pids
        before, stolen, started = self._cpu_s(pids), steal_seconds(), time.monotonic()
        load = run_window(workload, label, self.engine)
        try:
            while True:
                try:
                    progress = next(load)
                except StopIteration as stop:
                    window: Window = stop.value
                    break
                self.watch(label, progress)
                yield _estimate(label, progress, self.left_s)
        finally:
            load.close()
        ended = [process.pid for process in self.target.processes if start_time_s(process.pid) is None]
        if ended and len(ended) == len(self.target.processes):
            raise CannotMeasure(
                f"the service's process {pids[0]} ended during the measurement", why=f"window {label} is not valid", fix="look at the service's own log"
            )
        steal = None if stolen is None else ((steal_seconds() or 0.0) - stolen) / (time.monotonic() - started)
        measured: Window = window.with_(cpu_seconds=max(0.0, self._cpu_s(pids) - before) if pids else None, steal_share=steal, **memory_of(self.target, pids))
        return measured

    def _cpu_s(self, pids: Sequence[int]) -> float:
        """CPU seconds of the service so far; of a database with all the processes that it had and has for its connections."""
        return sum(tree_cpu_seconds(process.pid) for process in self.target.processes) if is_store(self.target.url) else cpu_seconds(pids)

    def series(self, label: str, rate_per_s: float, count: int, duration_s: float, first_seed: int) -> Generator[Event, None, list[Window]]:
        """Several windows with different schedules; the running estimate is over all of them so far.

        A window in which the generator itself was late is left out and repeated, at most ``count`` times; then it is kept, and there is no verdict.
        """
        windows: list[Window] = []
        merged = Histogram()
        late = 0
        while len(windows) < count:
            number = len(windows) + late
            for event in (inner := Held(self.window(label, rate_per_s, duration_s, first_seed + number))):
                if isinstance(event, RunningEstimate):
                    event = event.with_(requests=event.requests + merged.count, p95_s=_over_windows(windows, event.p95_s, merged))
                yield event
            window = inner.result
            if not window.generator_ok and late < count:
                late += 1  # left out whatever it says, and sent again: our own lateness is no property of the service
                yield Told(text=f"a window was left out and is repeated: the generator sent late by {window.lateness_p99_s * 1000:.1f} ms at p99")
                continue
            windows.append(window)
            for step in window.steps:
                merged.merge(Histogram.from_data(step.latency))
            refuse_broken(window)
            if window.stopped_early:
                raise CannotMeasure(
                    f"the load was stopped: {window.stopped_early}",
                    why=error_text(window),
                    fix="the service must answer most requests before it can be measured; see its log",
                )
        return windows

    def search(self, label: str, slo: Slo, start_per_s: float) -> Generator[Event, None, RateSearch]:
        """The highest rate that keeps the SLO, by measured probes only; every probe is told."""

        patience_s = min(self.config.measure.timeout_s, max(1.0, PATIENCE * slo.latency_p95_ms / 1000)) if slo.latency_p95_ms else None

        def probe(rate_per_s: float) -> Generator[Event, None, Window]:
            window = yield from self.window(label, rate_per_s, PROBE_S, len(self.points) + 1, patience_s)
            merged = Histogram()
            for step in window.steps:
                merged.merge(Histogram.from_data(step.latency))
            if merged.count:
                throughput = window.achieved_per_s or merged.count / window.duration_s
                self.points.append((throughput * merged.mean(), throughput))
            yield from self.calm(start_per_s)
            return window

        result: RateSearch = yield from search_rate(probe, slo, start_per_s=start_per_s, max_per_s=self.config.limits.rate_max_per_s, probes_max=PROBES_MAX)
        return result

    def calm(self, rate_per_s: float) -> Generator[Event, None, bool]:
        """Wait until the service has worked off what an overload left: short windows at a quarter of the rate until none fails and their p95 settles; at most 20 s."""
        until = time.monotonic() + CALM_MAX_S
        last: float | None = None
        while time.monotonic() < until:
            window = yield from quiet(self.window("calm", max(4.0, rate_per_s / 4), CALM_WINDOW_S, seed=0, timeout_s=2.0))
            p95 = window_p95(window)
            failed = sum(step.sent - step.ok for step in window.steps)
            if not failed and p95 is not None and last is not None and p95 <= CALM_FACTOR * last + 0.005:
                return True
            if not failed and p95 is not None and p95 < 0.05:
                return True
            last = None if failed else p95
        return False

    def knee(self) -> Generator[Event, None, RateSearch]:
        """Where latency leaves its floor, for a service without a configured rate."""
        yield PhaseStarted(phase="rate", detail="no rate is configured: looking for the knee", left_s=self.left_s)
        first = yield from self.window("knee", KNEE_START_PER_S, PROBE_S)
        return (yield from self.search("knee", knee_slo(first), KNEE_START_PER_S))

    @property
    def left_s(self) -> float:
        """Seconds left of the budget."""
        return max(0.0, self.deadline - time.monotonic())


def quiet(window: Generator[Event, None, Window]) -> Generator[Event, None, Window]:
    """Passes on no estimates: what is settling is not shown as a measurement."""
    while True:
        try:
            event = next(window)
        except StopIteration as stop:
            result: Window = stop.value
            return result
        if not isinstance(event, RunningEstimate):
            yield event


def _estimate(label: str, progress: Progress, left_s: float) -> RunningEstimate:
    """What whoever watches sees of a window that runs."""
    latency, steps = progress.histogram, progress.second.steps
    return RunningEstimate(
        phase=label,
        requests=progress.ok,
        p95_s=_running(latency),
        p50_s=latency.quantile(0.5),
        p99_s=latency.quantile(0.99),
        errors=progress.errors,
        errors_by_class=progress.errors_by_class,
        rate_per_s=round(sum(step.sent for step in steps) / progress.second_s, 1),
        ok_per_s=round(sum(step.ok for step in steps) / progress.second_s, 1),
        users=progress.second.users,
        left_s=left_s,
    )


def _running(histogram: Histogram) -> Estimate | None:
    p95 = histogram.quantile(0.95)
    return None if p95 is None else Estimate(value=p95, n=histogram.count, unit="s", source="this window so far")


def _over_windows(windows: Sequence[Window], now: Estimate | None, merged: Histogram) -> Estimate | None:
    """The p95 of all windows so far; its interval needs two whole windows."""
    levels = [level for level in (window_p95(window) for window in windows) if level]
    value = merged.quantile(0.95) or (now.value if now else None)
    if value is None:
        return None
    if len(levels) < 2:
        return Estimate(value=value, n=len(levels) + 1, unit="s")
    _, low, high = geometric_t_interval(levels, 0.95)
    return Estimate(value=value, low=low, high=high, n=len(levels), unit="s", source="windows so far")


def window_p95(window: Window, step: str | None = None) -> float | None:
    """The p95 of one window in seconds, of one step or of all requests together."""
    merged = Histogram()
    for samples in window.steps:
        if step is None or samples.name == step:
            merged.merge(Histogram.from_data(samples.latency))
    return merged.quantile(0.95)


def refuse_broken(window: Window) -> None:
    """``CannotMeasure`` for a window in which most requests failed: what it says of the rest is not what users get."""
    sent, ok = sum(step.sent for step in window.steps), sum(step.ok for step in window.steps)
    if not sent or sent - ok > ERROR_SHARE_MAX * sent:
        raise CannotMeasure(
            "the service does not answer most requests",
            why=error_text(window),
            fix="see the service's log; check the URL and the journeys ([[journeys]] in perfloop.toml) with a browser or curl",
        )


def error_text(window: Window) -> str:
    """The errors of a window by class, most frequent first."""
    counts: dict[str, int] = {}
    for step in window.steps:
        for name, count in step.errors.items():
            counts[name] = counts.get(name, 0) + count
    told = ", ".join(f"{n} × {name}" for name, n in sorted(counts.items(), key=lambda i: -i[1])) or "no errors"
    return f"{told} of {sum(step.sent for step in window.steps)} requests"


__all__ = ["Meter", "error_text", "quiet", "refuse_broken", "window_p95"]
