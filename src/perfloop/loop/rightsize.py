"""Right-sizing as an experiment: the service's control group gets the proposed limit, the load of its busiest hour is sent, and the limit is undone.

A utilisation percentile of the past does not know the SLO; a measured window under the limit does. It goes through the journal and the watchdog as every change.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Any

from perfloop.change.base import ChangeContext
from perfloop.change.kinds.cgroup_limit import ID as CGROUP_LIMIT
from perfloop.change.kinds.cgroup_limit import plan as plan_limit
from perfloop.errors import ChangeRefused
from perfloop.host import cgroup, machine
from perfloop.host.secrets import resolve
from perfloop.load.search import judge
from perfloop.load.summary import merge_windows
from perfloop.loop import plugins
from perfloop.loop.guard import Guard, GuardedChange
from perfloop.loop.prepare import Session
from perfloop.model.capacity import CapacityPlan, RightSize
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.finding import Proposal
from perfloop.model.limits import MEMORY_MIN_BYTES
from perfloop.model.target import Environment

SHARES = (0.7, 0.55, 0.4, 0.25)  # of the limit that the busiest hour may use, the tightest first
MEMORY_MARGIN = 1.15
WINDOWS, WINDOW_S, SETTLE_S = 3, 4.0, 1.0
CPU_MIN, CPU_STEP = 0.1, 0.05


def right_size(session: Session, plan: CapacityPlan) -> Generator[Event, None, RightSize | None]:
    """The tightest of some CPU limits under which the load now keeps the SLO, and a memory limit; None with a note where it cannot be tried."""
    pids = session.meter.pids
    why_not = _refusal(session, plan, cgroup.folder(pids[0], "cpu") if pids else None, pids)
    if why_not:
        session.note(f"no limit was tried: {why_not}")
        return None
    cpu = next(item for item in plan.demands if item.kind == "cpu" and item.demand and item.capacity)
    assert cpu.demand is not None
    assert cpu.capacity is not None
    limits = cgroup.limits(pids[0])
    before = limits.cpu_cores or cpu.capacity
    memory_before = limits.memory_bytes or int(machine.memory().get("MemTotal", 0))
    used = next((max(value for _, value in item.points) for item in plan.demands if item.kind == "memory" and item.points), 0.0)
    memory = max(MEMORY_MIN_BYTES, ceil(used * MEMORY_MARGIN / 2**20) * 2**20)
    found: RightSize | None = None
    busy = max(0.0, cpu.idle) + cpu.demand.value * plan.now_per_s
    for cores in limits_to_try(busy, before):
        yield PhaseStarted(
            phase="right-size", detail=f"{plan.now_per_s:.4g} requests/s under {cores:g} cores instead of {before:g}", left_s=session.meter.left_s
        )
        found = yield from _tried(session, plan, cores, before, memory, memory_before)
        if found.ok:
            break
    if found is None:
        session.note(f"no smaller limit than {before:g} cores would carry {plan.now_per_s:.4g} requests/s")
        return None
    return (yield from _memory_tried(session, plan, found)) if found.ok else found


def limits_to_try(busy_cores: float, before: float) -> list[float]:
    """CPU limits below the present one, the tightest first; each once, for the same one again until it happens to keep the SLO would be no proof."""
    found = dict.fromkeys(round(max(CPU_MIN, ceil(busy_cores / share / CPU_STEP - 1e-9) * CPU_STEP), 2) for share in SHARES)
    return [cores for cores in found if cores < before]


def _refusal(session: Session, plan: CapacityPlan, folder: Path | None, pids: tuple[int, ...]) -> str:
    if session.policy.environment == Environment.PRODUCTION:
        return "this is production"
    if session.config.slo.latency_p95_ms is None:
        return "no SLO is configured that could tell whether a limit suffices"
    if not any(item.kind == "cpu" and item.demand and item.capacity for item in plan.demands):
        return "what a request takes of the CPU was not measured"
    if folder is None:
        return "the service runs in no control group of its own"
    others = [pid for pid in cgroup.members(folder) if pid not in pids]
    return f"its control group holds {len(others)} other processes" if others else ""


def _tried(session: Session, plan: CapacityPlan, cores: float, before: float, memory: int, memory_before: int) -> Generator[Event, None, RightSize]:
    """Windows under the CPU limit; it is undone whatever happens, for this is a try."""
    meter = session.meter
    group = cgroup.folder(meter.pids[0], "cpu")
    started = ended = None
    windows = []
    with _limited(session, f"try {cores:g} cores", {"group": str(group), "cpu": cores}) as guarded:
        yield from meter.window("settle", plan.now_per_s, SETTLE_S, 800)
        started = cgroup.throttling(meter.pids[0])
        for number in range(WINDOWS):
            windows.append((yield from meter.window("right-size", plan.now_per_s, WINDOW_S, 801 + number)))
            guarded.renew()
        ended = cgroup.throttling(meter.pids[0])
    merged = merge_windows("right-size", windows)
    seen = judge(merged, session.config.slo)
    ok = seen.ok if merged.generator_ok else None
    throttled = None
    if started is not None and ended is not None and ended.periods > started.periods:
        throttled = (ended.throttled_periods - started.throttled_periods) / (ended.periods - started.periods)
    yield Told(level="good" if ok else "info", text=f"under {cores:g} cores: p95 {1000 * (seen.p95_s or 0):.0f} ms, the SLO is {'kept' if ok else 'missed'}")
    return RightSize(
        cpu_cores_before=before,
        cpu_cores=cores,
        memory_before_bytes=memory_before,
        memory_bytes=memory,
        saved_share=1 - cores / before,
        ok=ok,
        p95_s=seen.p95_s,
        throttled_share=throttled,
        note=f"at {plan.now_per_s:.4g} requests/s over {WINDOWS} windows; undone afterwards"
        + (f"; throttled in {throttled:.0%} of its periods" if throttled is not None else ""),
    )


def _memory_tried(session: Session, plan: CapacityPlan, found: RightSize) -> Generator[Event, None, RightSize]:
    """The memory limit, the most that was used and 15 %, under the same load, where the service is alone in a group that has one; undone afterwards."""
    meter = session.meter
    group = cgroup.folder(meter.pids[0], "memory")
    if group is None or any(pid not in meter.pids for pid in cgroup.members(group)):
        return _noted(found, "the memory limit is the most that was used and 15 %, and was not tried: the service has no group of its own for memory")
    size_mib = found.memory_bytes // 2**20
    yield PhaseStarted(phase="right-size", detail=f"{plan.now_per_s:.4g} requests/s under {size_mib} MiB", left_s=session.meter.left_s)
    try:
        with _limited(session, f"try {size_mib} MiB", {"group": str(group), "memory": f"{size_mib}Mi"}) as guarded:
            before = cgroup.memory(meter.pids[0])
            window = yield from meter.window("right-size", plan.now_per_s, WINDOW_S, 811)
            guarded.renew()
            after = cgroup.memory(meter.pids[0])
    except ChangeRefused as refused:
        return _noted(found, f"the memory limit was not tried: {refused.what}")
    seen = judge(window, session.config.slo)
    killed = (after.oom_kills or 0) - (before.oom_kills or 0) if before and after else 0
    kept = seen.ok and not killed
    tried: RightSize = _noted(
        found, f"under {size_mib} MiB p95 was {1000 * (seen.p95_s or 0):.0f} ms, {killed} processes were killed for memory: {'kept' if kept else 'missed'}"
    ).with_(memory_ok=kept)
    return tried


def _noted(found: RightSize, text: str) -> RightSize:
    noted: RightSize = found.with_(note=f"{found.note}; {text}")
    return noted


@contextmanager
def _limited(session: Session, title: str, params: dict[str, Any]) -> Iterator[GuardedChange]:
    """The service under a limit, by journal and watchdog; undone when the block is left."""
    context = ChangeContext(
        base_dir=session.base_dir,
        config=session.config,
        resolve=lambda reference: resolve(reference, session.base_dir),
        environment=session.policy.environment.value,
    )
    guard = Guard(session.journal, session.audit, plugins.load("change kind"), context, session.config)
    change = plan_limit(Proposal(kind=CGROUP_LIMIT, title=title, params=params), context)
    with guard.open(change, run_id=session.result.run_id, target_url=session.config.target.url) as guarded:
        guarded.apply()
        yield guarded
