"""The hands of the experiments: what ``confirm.py`` may do to the target, wired to load, probes and the twin."""

from __future__ import annotations

from collections.abc import Callable

from perfloop.errors import CannotMeasure
from perfloop.host.competitor import Competitor, burst_s
from perfloop.host.procfs import rss_bytes
from perfloop.load.closed import run_solo
from perfloop.load.run import run_window
from perfloop.loop import plugins
from perfloop.loop.confirm import ConfirmTools
from perfloop.loop.measure import Meter
from perfloop.loop.prepare import Session
from perfloop.model.evidence import Evidence, SoloObservation
from perfloop.model.journey import Step
from perfloop.model.run import Window
from perfloop.model.target import Environment
from perfloop.observe.base import Access
from perfloop.observe.runner import Observer

SETTLE_WINDOW_SEED = 900


def tools_for(session: Session, access: Access, evidence: Evidence) -> ConfirmTools:
    """Bound to this target; the twin only where a read-only role is configured."""
    meter = session.meter
    return ConfirmTools(
        steps=meter.steps,
        rate_per_s=session.result.rate_per_s,
        solo=lambda step, requests_max, duration_max_s: observed_solo(meter, access, step, requests_max, duration_max_s, ("sockets", "process")),
        window=lambda steps, rate_per_s, duration_s: _window(meter, steps, rate_per_s, duration_s),
        memory=lambda: sum(rss_bytes(pid) for pid in meter.pids),
        what_if=_what_if(access.postgres_dsn) if access.postgres_dsn and evidence.postgres else None,
        compete=_compete(session),
        parameters=session.parameters,
    )


def observed_solo(meter: Meter, access: Access, step: Step, requests_max: int, duration_max_s: float, probes: tuple[str, ...]) -> SoloObservation:
    """One step, one request after another, with these probes."""
    with Observer(meter.target, access, probes, plugins.load("probe")) as observer:
        observer.wait_ready()
        samples = run_solo(
            meter.target.url,
            step,
            requests_max=requests_max,
            duration_max_s=duration_max_s,
            headers=meter.headers,
            timeout_s=meter.config.measure.timeout_s,
            cpu=meter.generator_cpu,
        )
        parts = observer.stop()
    return SoloObservation(
        step=step.name,
        window_s=parts.window_s,
        requests=samples.sent,
        samples=samples,
        cpu_s=parts.cpu_s,
        processes=parts.processes,
        collector=parts.collector,
        sockets=parts.sockets,
        stacks=parts.stacks,
    )


def _window(meter: Meter, steps: tuple[Step, ...], rate_per_s: float, duration_s: float) -> Window:
    load = run_window(meter.workload(rate_per_s, duration_s, SETTLE_WINDOW_SEED).with_(steps=steps), "experiment")
    while True:
        try:
            next(load)
        except StopIteration as stop:
            window: Window = stop.value
            return window


def _compete(session: Session) -> Callable[[float, float], tuple[float, Competitor]] | None:
    """A competitor on a core of the service, and how much it takes there; never in production, and only where the service is pinned away from the generator."""
    target = session.meter.target
    cores = sorted({cpu for process in target.processes for cpu in process.cpus})
    if not target.local or target.environment is Environment.PRODUCTION or len(cores) != 1 or cores[0] == session.meter.generator_cpu:
        return None

    def ask(length_s: float, rest_s: float) -> tuple[float, Competitor]:
        count = max(5, min(15, int(0.6 / (length_s + rest_s))))
        quiet_s = burst_s(cores[0], length_s, rest_s, count)
        with Competitor(cores[0]):
            beside_s = burst_s(cores[0], length_s, rest_s, count)
        return beside_s / quiet_s, Competitor(cores[0])

    return ask


def _what_if(dsn: str) -> Callable[[str, str], tuple[float, float, str]]:
    def ask(query: str, ddl: str) -> tuple[float, float, str]:
        from perfloop.twin.whatif import what_if

        answer = what_if(dsn, query, [ddl])
        if answer.cost_before <= 0:
            raise CannotMeasure("the twin gave the query no cost", fix="perfloop doctor")
        exactness = "the twin plans it as the target does" if answer.exact else "the twin's plan differs from the target's: " + "; ".join(answer.notes)
        return answer.cost_before, answer.cost_after, exactness

    return ask
