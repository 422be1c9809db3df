"""One look at the target: probes under load, each step alone, the rules, and the experiments that would refute what they suspect."""

from __future__ import annotations

from collections.abc import Generator

from perfloop.diagnose.breakdown import breakdowns
from perfloop.diagnose.runner import diagnose as judge
from perfloop.host.secrets import resolve
from perfloop.load.summary import merge_windows
from perfloop.loop import plugins
from perfloop.loop.confirm import confirm_all
from perfloop.loop.experiments import observed_solo, tools_for
from perfloop.loop.measure import refuse_broken
from perfloop.loop.prepare import Session
from perfloop.loop.tapping import Taps
from perfloop.loop.traces import Windows
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Diagnosis
from perfloop.model.run import Window
from perfloop.observe.answers import answers
from perfloop.observe.base import Access, ObservedParts
from perfloop.observe.runner import Observer
from perfloop.observe.source import called_stacks, snippets
from perfloop.report.flame import flame
from perfloop.report.flame_change import Sampled, flame_change

WINDOW_S, WINDOW_AGAIN_S = 6.0, 4.0
SOLO_S, SOLO_AGAIN_S = 1.5, 1.0  # again: after a kept change
SOLO_REQUESTS_MAX = 60
STEPS_MAX = 12  # sent alone, the heaviest by weight first
SOLO_PROBES = ("stacks", "sockets", "process", "collector", "calls")


def diagnose(session: Session) -> Generator[Event, None, None]:
    """Collect evidence, judge it, run the experiments, judge again; stored as evidence-N.json."""
    first = session.looks == 0
    evidence = yield from collect(session)
    rules = session.config.rules
    diagnosis = judge(evidence, rules)
    if session.config.measure.experiments and any(finding.experiment for finding in diagnosis.findings):
        yield PhaseStarted(phase="confirm", detail="experiments that would refute the suspects", left_s=session.meter.left_s)
        with Taps(session) as taps:
            tools = tools_for(session, access(session), evidence, taps)
            results = yield from confirm_all(diagnosis.findings, tools, session.audit, session.meter.left_s)
        evidence = evidence.with_(experiments=evidence.experiments + results)
        diagnosis = judge(evidence, rules)
    session.evidence = evidence
    session.looks += 1
    session.store.save_evidence(session.result.run_id, f"evidence-{session.looks}", evidence)
    graph = flame(evidence.stacks, session.meter.target.source_root)
    now = Sampled(graph, sum(step.ok for step in evidence.window.steps) if evidence.window else 0, max((one.rate_hz for one in evidence.stacks), default=0.0))
    experiments = session.result.experiments + evidence.experiments
    if first:
        session.first_look = now
        session.put(diagnosis=diagnosis, breakdown=breakdowns(evidence), flame_before=graph, experiments=experiments, unavailable=evidence.unavailable)
    else:
        session.put(
            diagnosis_after=diagnosis,
            breakdown_after=breakdowns(evidence),
            flame_after=graph,
            flame_change=flame_change(session.first_look, now) if session.first_look else None,
            experiments=experiments,
        )
    yield from _tell(diagnosis)


def collect(session: Session) -> Generator[Event, None, Evidence]:
    """The probes under the configured load, then each step alone."""
    meter = session.meter
    window_s, solo_s = (WINDOW_S, SOLO_S) if session.looks == 0 else (WINDOW_AGAIN_S, SOLO_AGAIN_S)
    yield PhaseStarted(phase="look", detail=f"{window_s:g} s under load with all probes, then each step alone", left_s=meter.left_s)
    traced = Windows(meter.config.target.otlp_port)
    with traced.window():
        window, parts = yield from _observed(session, meter.window("look", session.result.rate_per_s, window_s, seed=500 + session.looks))
    refuse_broken(window)
    evidence: Evidence = parts.into(Evidence(target=meter.target, window=window, baseline=merge_windows("baseline", session.baseline)))
    heaviest = sorted(meter.steps, key=lambda step: -step.weight)[:STEPS_MAX]
    solos = []
    for step in heaviest:
        with traced.window():
            solos.append(observed_solo(meter, access(session), step, SOLO_REQUESTS_MAX, solo_s, SOLO_PROBES))
    (under_load, *alone_calls), untraced = traced.collected()
    solos = [alone.with_(calls=(*alone.calls, *calls)) for alone, calls in zip(solos, alone_calls, strict=True)]
    evidence = evidence.with_(calls=(*evidence.calls, *under_load), unavailable=(*evidence.unavailable, *untraced))
    got = answers(meter.target.url, heaviest, meter.headers, meter.config.target.ca_file)
    counted = (*evidence.calls, *(one for alone in solos for one in alone.calls))
    stacks = (*evidence.stacks, *(one for alone in solos for one in alone.stacks), *called_stacks(counted))
    seen: Evidence = evidence.with_(solo=tuple(solos), responses=got, source=snippets(stacks, meter.target.source_root))
    return seen


def access(session: Session) -> Access:
    """What the probes may use now."""
    reference = session.config.target.postgres
    target = session.config.target
    return Access(
        pids=session.meter.pids,
        postgres_dsn=resolve(reference, session.base_dir) if reference else "",
        memcached=target.memcached,
        mongodb_documents=str(session.base_dir / target.mongodb_documents) if target.mongodb_documents else "",
        mysql_dsn=resolve(target.mysql, session.base_dir) if target.mysql else "",
        redis_dsn=resolve(target.redis, session.base_dir) if target.redis else "",
        source_root=session.meter.target.source_root,
    )


def _observed(session: Session, load: Generator[Event, None, Window]) -> Generator[Event, None, tuple[Window, ObservedParts]]:
    with Observer(session.meter.target, access(session), None, plugins.load("probe")) as observer:
        observer.wait_ready()
        result = yield from load
        return result, observer.stop()


def _tell(diagnosis: Diagnosis) -> Generator[Event, None, None]:
    for number, finding in enumerate(diagnosis.findings[:5], 1):
        place = finding.place
        where = f" at {place.file}:{place.line}" if place.file else f" in {place.query[:80]}" if place.query else f" ({place.peer})" if place.peer else ""
        yield Told(level="bad" if number == 1 else "info", text=f"{number}. {finding.rule} ({finding.confidence.value}): {finding.title}{where}")
    if not diagnosis.findings:
        yield Told(level="good", text="no bottleneck found")


__all__ = ["access", "collect", "diagnose"]
