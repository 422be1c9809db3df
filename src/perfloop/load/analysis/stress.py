"""Stress: the highest rate that keeps the SLO, and what gave way first beyond it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perfloop.load.analysis.seconds import shown
from perfloop.load.merge import merge_counts, merge_steps
from perfloop.load.search import ACHIEVED_MIN, ERROR_RATE_MAX, judge
from perfloop.model.base import Estimate
from perfloop.model.loadtest import LoadKind, LoadTest, Measure
from perfloop.model.result import Slo
from perfloop.model.run import RateSearch, StepSamples, Window
from perfloop.stats.histogram import Histogram

BUSY = 0.9
GREW = 2.0


def judge_stress(search: RateSearch, windows: Mapping[float, Window], slo: Slo, needed_per_s: float | None, cores: float | None) -> LoadTest:
    """``windows`` are the probes by rate. With ``needed_per_s`` the answer is yes or no; without, finding the break is the answer. ``cores`` are those that the service may use."""
    bad = min(
        (probe.rate_per_s for probe in search.probes if not probe.ok and (search.rate_per_s is None or probe.rate_per_s > search.rate_per_s)), default=None
    )
    gave_way: tuple[str, ...] = ()
    if bad is not None and bad in windows and search.bounded:
        gave_way = what_gave_way(windows.get(search.rate_per_s or -1.0), windows[bad], slo, cores)
    found = search.rate_per_s
    interval = Estimate(value=found, low=found, high=bad, n=len(search.probes), unit="1/s", source="measured probes") if found is not None else None
    ok: bool | None = None
    if needed_per_s is not None:
        ok = True if found is not None and found >= needed_per_s else False if search.bounded else None
    elif found is not None and search.bounded:
        ok = True
    elif found is None and search.bounded:
        ok = False
    measures = (
        Measure(
            name="highest rate that keeps the SLO",
            value=interval,
            bound=f"≥ {needed_per_s:g}/s" if needed_per_s is not None else "",
            ok=ok if needed_per_s is not None else None,
            note=search.slo + (f"; {bad:.0f}/s did not" if bad is not None and search.bounded else ""),
        ),
        Measure(name="probes", value=Estimate(value=len(search.probes), n=len(search.probes))),
    )
    if found is None:
        answer = f"no rate kept {search.slo}"
    elif search.bounded:
        answer = f"{found:.0f} requests/s keep {search.slo}" + (f", {bad:.0f} do not" if bad is not None else "")
    else:
        answer = f"{found:.0f} requests/s keep {search.slo}; the break was not reached (the generator or limits.rate_max_per_s ended the search)"
    return LoadTest(kind=LoadKind.STRESS, ok=ok, answer=answer, measures=measures, gave_way=gave_way, windows=tuple(windows[rate] for rate in sorted(windows)))


def what_gave_way(good: Window | None, bad: Window, slo: Slo, cores: float | None) -> tuple[str, ...]:
    """What failed in the lowest bad probe, most telling first: errors by class, falling behind, then latency by step; and whether the service's cores were used up."""
    found: list[str] = []
    total = merge_steps("total", bad.steps)
    seen = judge(bad, slo)
    if seen.error_rate > (ERROR_RATE_MAX if slo.error_rate_max is None else slo.error_rate_max):
        kinds = sorted(merge_counts(step.errors for step in bad.steps).items(), key=lambda item: -item[1])
        found.append("errors: " + ", ".join(f"{count / max(1, total.sent):.1%} {kind}" for kind, count in kinds[:3]))
    if bad.achieved_per_s is not None and seen.achieved_per_s < ACHIEVED_MIN * bad.rate_per_s:
        found.append(f"throughput: {seen.achieved_per_s:.0f} of {bad.rate_per_s:.0f} requests/s were answered in time")
    if slo.latency_p95_ms is not None and seen.p95_s is not None and seen.p95_s * 1000 > slo.latency_p95_ms:
        found.append(f"latency: p95 {shown(seen.p95_s)}{_steps(good, bad)}")
    if bad.cpu_seconds is not None and cores:
        used = bad.cpu_seconds / bad.duration_s
        state = "its cores were used up" if used >= BUSY * cores else "so CPU was not what ran out"
        found.append(f"CPU: the service used {used:.2f} of {cores:g} cores: {state}")
    return tuple(found)


def _steps(good: Window | None, bad: Window) -> str:
    """The step that grew most since the good probe, where one stands out."""
    before = {step.name: step for step in good.steps} if good else {}
    grown = []
    for step in bad.steps:
        now, then = _p95(step), _p95(before[step.name]) if step.name in before else None
        if now and then and now >= GREW * then:
            grown.append((now / then, step.name, now))
    if not grown or len(bad.steps) < 2:
        return ""
    factor, name, now = max(grown)
    return f", most of all {name}: × {factor:.1f} to {shown(now)}"


def _p95(step: StepSamples) -> float | None:
    return Histogram.from_data(step.latency).quantile(0.95)


def probes_text(search: RateSearch) -> Sequence[str]:
    """One line a probe."""
    return [
        f"{probe.rate_per_s:.0f}/s: p95 {shown(probe.p95_s)}, errors {probe.error_rate:.2%} — {'kept' if probe.ok else 'not kept'}"
        if probe.p95_s
        else f"{probe.rate_per_s:.0f}/s: no answer"
        for probe in search.probes
    ]
