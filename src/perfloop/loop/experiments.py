"""The hands of the experiments: what ``confirm.py`` may do to the target, wired to load, probes and the twin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from perfloop.change.kinds import cpu_quota
from perfloop.errors import CannotMeasure, ChangeRefused
from perfloop.host import cgroup
from perfloop.host.competitor import Competitor, burst_s
from perfloop.host.procfs import rss_bytes
from perfloop.load.closed import run_solo
from perfloop.load.run import run_window
from perfloop.loop import plugins
from perfloop.loop.confirm import ConfirmTools
from perfloop.loop.cpu_less import Compete
from perfloop.loop.guard import Guard
from perfloop.loop.measure import Meter
from perfloop.loop.prepare import Session
from perfloop.loop.tapping import Taps
from perfloop.loop.tries import context_of
from perfloop.model.evidence import Evidence, SoloObservation
from perfloop.model.finding import Proposal
from perfloop.model.journey import Step
from perfloop.model.run import StepSamples, Window
from perfloop.model.target import Environment
from perfloop.observe.base import Access
from perfloop.observe.runner import Observer

SETTLE_WINDOW_SEED = 900


def tools_for(session: Session, access: Access, evidence: Evidence, taps: Taps | None = None) -> ConfirmTools:
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
        tap=taps.open if taps and session.config.target.taps else None,
        alone=lambda step, requests_max, duration_max_s: _alone(meter, step, requests_max, duration_max_s),
    )


def _alone(meter: Meter, step: Step, requests_max: int, duration_max_s: float) -> StepSamples:
    return run_solo(
        meter.target.url,
        step,
        requests_max=requests_max,
        duration_max_s=duration_max_s,
        headers=meter.headers,
        timeout_s=meter.config.measure.timeout_s,
        cpu=meter.generator_cpu,
    )


def observed_solo(meter: Meter, access: Access, step: Step, requests_max: int, duration_max_s: float, probes: tuple[str, ...]) -> SoloObservation:
    """One step, one request after another, with these probes."""
    with Observer(meter.target, access, probes, plugins.load("probe")) as observer:
        observer.wait_ready()
        samples = _alone(meter, step, requests_max, duration_max_s)
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
        calls=parts.calls,
    )


def _window(meter: Meter, steps: tuple[Step, ...], rate_per_s: float, duration_s: float) -> Window:
    load = run_window(meter.workload(rate_per_s, duration_s, SETTLE_WINDOW_SEED).with_(steps=steps), "experiment")
    while True:
        try:
            next(load)
        except StopIteration as stop:
            window: Window = stop.value
            return window


def _compete(session: Session) -> Compete | None:
    """What takes CPU from the service, never in production: a competitor on its one core, else a quota where the policy allows a change; None where neither is possible."""
    target = session.meter.target
    cores = sorted({cpu for process in target.processes for cpu in process.cpus})
    if not target.local or target.environment is Environment.PRODUCTION or not cores:
        return None
    if len(cores) == 1 and cores[0] != session.meter.generator_cpu:
        return lambda length_s, rest_s: _beside_competitor(cores[0], length_s)
    if not session.policy.changes_allowed or any(cgroup.version(pid) != 1 for pid in session.meter.pids):
        return None
    return lambda length_s, rest_s: _under_quota(session, cores, length_s, rest_s)


def _bursts(length_s: float, rest_s: float) -> int:
    return max(5, min(15, int(0.6 / (length_s + rest_s))))


@contextmanager
def _beside_competitor(core: int, length_s: float) -> Iterator[tuple[float, str]]:
    rest_s = min(0.02, length_s)
    count = _bursts(length_s, rest_s)
    quiet_s = burst_s([core], length_s, rest_s, count)
    with Competitor(core):
        less_s = burst_s([core], length_s, rest_s, count)
    with Competitor(core):  # a new one: each ends by itself after ten seconds
        yield less_s / quiet_s, "a competitor on its core"


@contextmanager
def _under_quota(session: Session, cores: Sequence[int], length_s: float, rest_s: float) -> Iterator[tuple[float, str]]:
    """Half of the CPU that the finding says a request uses: where it uses less, the quota does not stop it. The reference runs under the same quota, the service idle beside it."""
    cpu = max(cpu_quota.CPU_MIN, 0.5 * length_s / (length_s + rest_s))
    plan = Proposal(kind=cpu_quota.ID, title="", params={"pids": list(session.meter.pids), "cpu": cpu})
    count = max(8, min(40, int(0.6 / length_s)))  # several periods of the quota
    quiet_s = burst_s(cores, length_s, rest_s, count, mean=True)
    try:
        change = cpu_quota.plan(plan, context_of(session))
    except ChangeRefused as error:
        raise CannotMeasure(error.what, why=error.why, fix=error.fix) from error
    if refusal := session.policy.refusal(change):
        raise CannotMeasure("no CPU may be taken from the service here", why=refusal)
    guard = Guard(session.journal, session.audit, plugins.load("change kind"), context_of(session), session.config)
    with guard.open(change, run_id=session.result.run_id, target_url=session.meter.target.url) as opened:
        opened.apply()
        less_s = burst_s(cores, length_s, rest_s, count, group=Path(change.params["group"]), mean=True)
        yield less_s / quiet_s, f"a quota of {cpu:.2f} cores"
        opened.undo("the experiment is over")


def _what_if(dsn: str) -> Callable[[str, str], tuple[float, float, str]]:
    def ask(query: str, ddl: str) -> tuple[float, float, str]:
        from perfloop.twin.whatif import what_if

        answer = what_if(dsn, query, [ddl])
        if answer.cost_before <= 0:
            raise CannotMeasure("the twin gave the query no cost", fix="perfloop doctor")
        exactness = "the twin plans it as the target does" if answer.exact else "the twin's plan differs from the target's: " + "; ".join(answer.notes)
        return answer.cost_before, answer.cost_after, exactness

    return ask
