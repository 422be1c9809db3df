"""``perfloop capacity``: how far the service goes, what ends it, what to add, what it costs, and how to scale it. The order on one screen."""

from __future__ import annotations

from collections.abc import Generator
from statistics import median

from perfloop.capacity import alerts, instances, policy, sizing
from perfloop.capacity import bursts as worked_off
from perfloop.capacity.bands import with_bands
from perfloop.capacity.replay import Replica
from perfloop.capacity.usl import fit
from perfloop.errors import Interrupted, UsageError
from perfloop.host.files import read_limited
from perfloop.load.search import knee_slo, search_rate, slo_text
from perfloop.loop import deliver, history, prepare, reach, replicas, rightsize
from perfloop.loop.measure import error_text
from perfloop.loop.prepare import Session
from perfloop.model.base import Estimate
from perfloop.model.capacity import CapacityPlan, LoadPoint, Need, Option
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.requests import CapacityRequest
from perfloop.model.result import RunResult, Slo
from perfloop.model.run import RateSearch, Window
from perfloop.model.target import Environment

LEVEL_S, LEVEL_ROUNDS = 2.0, 3
PROBE_S, PROBES_MAX = 3.0, 12
FACTORS = (1.0, 2.0, 5.0, 10.0)
TABLE_MAX_BYTES = 2**20
STARTUP_S = 30.0
QUEUE_SHARE = 1.0


def capacity(session: Session, request: CapacityRequest) -> Generator[Event, None, RunResult]:
    """Measure gently, then to the end where that is allowed, and plan for the growth."""
    table, copies = _table(session), replicas.counts(request.replicas)
    try:
        yield from prepare.understand(session)
        operation = session.audit.begin(
            operation="load_test",
            command=f"capacity sweep on {session.config.target.url}, at most {session.config.limits.rate_max_per_s:g}/s",
            resources=(f"service:{session.config.target.url}",),
            run_id=session.result.run_id,
        )
        try:
            plan = yield from _measured(session, request, copies)
        except BaseException as error:
            session.audit.end(operation, "failure", error_detail=str(error) or type(error).__name__)
            raise
        session.audit.end(operation, "success")
        yield PhaseStarted(phase="plan", detail=f"for {plan.growth:.3g} times {plan.now_per_s:.4g} requests/s", left_s=session.meter.left_s)
        plan = _planned(session, plan, table)
        if request.right_size:
            plan = plan.with_(right_size=(yield from rightsize.right_size(session, plan)))
        session.put(capacity_plan=plan, rate_per_s=plan.now_per_s)
        _files(session, plan)
    except (KeyboardInterrupt, Interrupted):
        return deliver.finish(session, "interrupted")
    return deliver.finish(session, "done")


def _measured(session: Session, request: CapacityRequest, copies: tuple[int, ...]) -> Generator[Event, None, CapacityPlan]:
    """Everything that needs load: the gentle sweep, the highest rate under the SLO, the closed sweep."""
    meter = session.meter
    unknown: list[str] = []
    found = yield from reach.gentle(session, request.rounds)
    unknown += found.notes
    yield from reach.told(found)
    predicted, disagreement = worked_off.end(next((d.saturates_at_per_s for d in found.demands if d.saturates_at_per_s), None), found.drain.rate)
    plan = CapacityPlan(
        now_per_s=0.0,
        growth=request.growth_factor,
        points=tuple(found.points),
        demands=found.demands,
        gentle_max_per_s=found.gentle_max_per_s,
        predicted_per_s=predicted,
        predicted_note=disagreement,
        bursts=tuple(found.bursts),
        slo=slo_text(session.config.slo),
    )
    if request.gentle or session.policy.environment == Environment.PRODUCTION:
        unknown.append("the end was not measured: only up to 40 % of the predicted saturation was sent (--gentle, or production)")
    else:
        rate, points, slo = yield from _highest(session, found.gentle_max_per_s, predicted)
        closed, law = yield from _closed(session, request)
        saturated = _saturated(closed)
        plan = plan.with_(
            rate_slo=Estimate(value=rate.rate_per_s, n=len(rate.probes), unit="1/s", source="measured probes") if rate.rate_per_s is not None else None,
            rate_slo_bounded=rate.bounded,
            slo=slo_text(slo),
            points=(*plan.points, *points),
            closed=tuple(closed),
            saturated_per_s=saturated,
        )
        session.put(capacity=law, throughput_before=rate)
    if copies:
        plan = plan.with_(replicas=(yield from replicas.measured(session, copies)))
    growth = history.growth_of(session, request, plan.rate_slo.value if plan.rate_slo else None)
    unknown += growth.notes
    filled: CapacityPlan = plan.with_(now_per_s=growth.now_per_s, growth=growth.factor, forecast=growth.forecast, unknown=(*unknown, *_unknown(plan, session)))
    session.put(capacity_plan=filled)
    yield from meter.calm(max(1.0, found.gentle_max_per_s))
    return filled


def _highest(session: Session, start_per_s: float, predicted: Estimate | None) -> Generator[Event, None, tuple[RateSearch, list[LoadPoint], Slo]]:
    """The highest rate that keeps the SLO; without one, where the p95 leaves three times its floor."""
    meter, slo = session.meter, session.config.slo
    points: list[LoadPoint] = []
    if slo.latency_p95_ms is None and slo.latency_p99_ms is None:
        first = yield from meter.window("floor", max(1.0, start_per_s / 4), PROBE_S, 400)
        slo = knee_slo(first)
        session.note("no SLO is configured: the knee stands for it, p95 within three times its floor")
    yield PhaseStarted(phase="highest rate", detail=f"that keeps {slo_text(slo)}", left_s=meter.left_s)

    def probe(rate_per_s: float) -> Generator[Event, None, Window]:
        window = yield from meter.window(
            "highest rate", rate_per_s, reach.window_s(rate_per_s, PROBE_S), 401 + len(points), min(meter.config.measure.timeout_s, 3.0)
        )
        points.append(reach.point_of(window, 10 + len(points)))
        if not points[-1].ok or points[-1].error_rate or points[-1].achieved_per_s < 0.95 * rate_per_s:
            yield from meter.calm(max(1.0, start_per_s))
        return window

    rate = yield from search_rate(
        probe,
        slo,
        start_per_s=max(0.5, start_per_s),
        max_per_s=session.config.limits.rate_max_per_s,
        probes_max=PROBES_MAX,
        ceiling_per_s=predicted.value if predicted else start_per_s / 0.4,
    )
    if rate.rate_per_s is not None:
        yield Told(text=f"{rate.rate_per_s:.0f} requests/s keep {rate.slo}" + ("" if rate.bounded else " (the end was not reached)"))
    return rate, points, slo


def _closed(session: Session, request: CapacityRequest) -> Generator[Event, None, tuple[list[LoadPoint], object]]:
    """Throughput against concurrency: users without think time, several rounds, alternately up and down; and the law through it."""
    meter = session.meter
    points: list[LoadPoint] = []
    levels = tuple(level for level in session.config.capacity.levels if level <= meter.config.measure.connections_max)
    yield PhaseStarted(phase="sweep", detail=f"{', '.join(map(str, levels))} users at once, {LEVEL_ROUNDS} rounds", left_s=meter.left_s)
    for number in range(max(LEVEL_ROUNDS, request.rounds)):
        for users in levels if number % 2 == 0 else reversed(levels):
            workload = meter.workload(1.0, LEVEL_S, 600 + number).with_(rate_per_s=0.0, users=users, slot_s=max(0.1, LEVEL_S / 4))
            window = yield from meter.sent(f"{users} users", workload)
            point = reach.point_of(window, number).with_(users=users, concurrency=float(users), rate_per_s=0.0)
            if point.error_rate > 0.05:
                session.note(f"with {users} users at once: {error_text(window)}; larger levels were left out")
                levels = tuple(level for level in levels if level < users)
                break
            points.append(point)
    usable = [(point.concurrency, point.achieved_per_s, point.round) for point in points if point.ok and point.achieved_per_s > 0]
    law = with_bands(fit([(n, x) for n, x, _ in usable]), [number for _, _, number in usable])
    return points, law


def _saturated(closed: list[LoadPoint]) -> Estimate | None:
    """The level of users with the highest throughput: its median over the rounds, and their range."""
    by_level: dict[int, list[float]] = {}
    for point in closed:
        if point.ok:
            by_level.setdefault(point.users, []).append(point.achieved_per_s)
    best = max(by_level.values(), key=median, default=None)
    if best is None:
        return None
    return Estimate(value=median(best), low=min(best), high=max(best), n=len(best), unit="1/s", source="closed sweep: the best level's rounds")


def _planned(session: Session, plan: CapacityPlan, table: instances.Table) -> CapacityPlan:
    """Everything that follows from the measurements, without load."""
    rate_slo = plan.rate_slo.value if plan.rate_slo else _gentle_rate(plan)
    service = _service(session, plan, rate_slo)
    wanted = plan.now_per_s * plan.growth
    factors = sorted({*FACTORS, plan.growth})
    needs: tuple[Need, ...] = sizing.needs(plan.demands, plan.rate_slo.value if plan.rate_slo else None, plan.now_per_s, factors)
    options: tuple[Option, ...] = sizing.options(wanted, service, plan.demands, plan.points, table, plan.replicas) if service else ()
    replica = _replica(session, plan, rate_slo, options)
    name = (
        "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in (session.config.target.name or "service").lower()).strip("-.") or "service"
    )
    derived = policy.derive(plan.now_per_s, wanted, replica, plan.demands, name, plan.forecast) if replica else None
    first = next((d.saturates_at_per_s.value for d in plan.demands if d.saturates_at_per_s), None)
    filled: CapacityPlan = plan.with_(
        needs=needs,
        options=options,
        policy=derived,
        thresholds=history.thresholds(plan),
        alerts=alerts.rules(session.config.slo, name, plan.rate_slo.value if plan.rate_slo else None, plan.demands),
        dashboard=alerts.dashboard(session.config.slo, name, plan.rate_slo.value if plan.rate_slo else None, first),
        prices_dated=f"{table.dated} ({table.currency}, on demand)",
    )
    return filled


def _gentle_rate(plan: CapacityPlan) -> float | None:
    """Where nothing was measured to its end: 70 % of the predicted saturation stands for the highest rate, and the options say so."""
    return 0.7 * plan.predicted_per_s.value if plan.predicted_per_s else None


def _service(session: Session, plan: CapacityPlan, rate_slo: float | None) -> sizing.Service | None:
    if not rate_slo:
        return None
    cpu = next((d for d in plan.demands if d.kind == "cpu" and d.capacity and d.demand), None)
    memory = next((d for d in plan.demands if d.kind == "memory" and d.points), None)
    pool, _ = reach.configured_pool(session)
    workers = max(1, round(cpu.capacity)) if cpu and cpu.capacity and "process" in cpu.capacity_source else 1
    return sizing.Service(
        rate_slo_per_s=rate_slo,
        cores=cpu.capacity if cpu and cpu.capacity else 1.0,
        workers=workers,
        memory_bytes=int(max(used for _, used in memory.points)) if memory else 0,
        pool=int(pool) if pool else None,
        connections_max=session.connections_max,
    )


def _replica(session: Session, plan: CapacityPlan, rate_slo: float | None, options: tuple[Option, ...]) -> Replica | None:
    cpu = next((d for d in plan.demands if d.kind == "cpu" and d.capacity and d.demand), None)
    if not rate_slo:
        return None
    ends = [d.saturates_at_per_s.value for d in plan.demands if d.saturates_at_per_s and d.scales]
    most = max([rate_slo, *([plan.saturated_per_s.value] if plan.saturated_per_s else ends[:1])])
    chosen = next((option for option in options if option.chosen and option.cost_per_month), None)
    per_hour = 0.0
    if chosen is not None and chosen.cost_per_month is not None and chosen.rate_per_s:
        per_hour = chosen.cost_per_month / instances.HOURS_PER_MONTH * rate_slo / chosen.rate_per_s
    bound_ms = session.config.slo.latency_p95_ms or 1000.0
    return Replica(
        rate_slo_per_s=rate_slo,
        rate_max_per_s=most,
        cpu_per_request_s=cpu.demand.value if cpu and cpu.demand else 0.0,
        cpu_idle_cores=max(0.0, cpu.idle) if cpu else 0.0,
        cpu_request_cores=cpu.capacity if cpu and cpu.capacity else 1.0,
        startup_s=_startup_s(session, plan),
        queue_max_s=QUEUE_SHARE * bound_ms / 1000,
        cost_per_hour=per_hour,
    )


def _startup_s(session: Session, plan: CapacityPlan) -> float:
    """As configured, else as the copies took it, else taken."""
    if session.config.capacity.startup_s is not None:
        return session.config.capacity.startup_s
    return plan.replicas[0].startup_s if plan.replicas else STARTUP_S


def _table(session: Session) -> instances.Table:
    name = session.config.capacity.instances
    if not name:
        return instances.builtin()
    path = session.base_dir / name
    if not path.is_file():
        raise UsageError(f"capacity.instances = {name} is not a file", fix="give a path relative to the configuration")
    return instances.parse(read_limited(path, TABLE_MAX_BYTES).decode(errors="replace"), name)


def _unknown(plan: CapacityPlan, session: Session) -> list[str]:
    """What the reader must not take for known."""
    found = [f"{item.resource}: {item.note}" for item in plan.demands if item.saturates_at_per_s is None and item.note]
    first = next((d for d in plan.demands if d.saturates_at_per_s), None)
    if plan.predicted_note:
        found.append(plan.predicted_note)
    if first is None:
        found.append("nothing that is seen is used so much by a request that it could be said what ends the service")
    elif plan.saturated_per_s and first.saturates_at_per_s and plan.saturated_per_s.value < 0.8 * first.saturates_at_per_s.value:
        found.append(
            f"it ended at {plan.saturated_per_s.value:.0f} requests/s, before {first.resource} would have ({first.saturates_at_per_s.value:.0f}): something that is not seen ends it"
        )
    late = [point for point in (*plan.points, *plan.closed) if not point.ok]
    if late:
        found.append(f"in {len(late)} windows the load generator was the limit; they were left out")
    if any(not point.little_ok for point in plan.points):
        found.append("some windows contradict Little's law: " + "; ".join(sorted({point.note for point in plan.points if point.note})[:2]))
    if session.config.capacity.startup_s is None and not plan.replicas:
        found.append(f"the start-up time of a replica was not measured: {STARTUP_S:.0f} s was taken (--replicas measures it, capacity.startup_s says it)")
    found.append("costs are list prices of the table; a vCPU there was not measured against a core here")
    return found


def _files(session: Session, plan: CapacityPlan) -> None:
    """The files to apply: rules, dashboard, autoscaler."""
    named = {"alerts.yaml": plan.alerts, "dashboard.json": plan.dashboard}
    if plan.policy is not None:
        named |= {"autoscaler.yaml": plan.policy.manifest, "target-tracking.json": plan.policy.target_tracking}
    for name, text in named.items():
        if text:
            session.store.save_file(session.result.run_id, name, text.encode())


__all__ = ["capacity"]
