"""The CPU quota of the service's control group stops it.

What it finds
    Services (containers) whose threads are stopped by the kernel because their group used up its CPU quota for the period.

Why it costs you
    A stop lasts up to a whole period (100 ms) for every thread of the group, however idle the machine is: latency jumps while mean use looks low.

How it decides
    Under load the quota stops the group for at least ``stopped_min`` seconds per second, or in at least ``periods_min`` of the periods. Likely where the
    threads' own time runnable without a core (``run_delay_share`` of the stop, at least) agrees: they wanted to run.

What would disprove it
    With a larger quota latency stays the same.

How to fix
    Raise or remove the limit (Kubernetes ``resources.limits.cpu``, Docker ``--cpus``), use fewer threads and workers than the quota has cores, or make requests cheaper.

Sources
    Linux kernel documentation, "CFS Bandwidth Control"; Gregg, the USE method (saturation); Kubernetes issue 67577 on throttling below the limit.
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import code_change, conclude, gain, ms, percent
from perfloop.diagnose.reading import Reading
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, RuleResult

ID = "cpu-throttled"
NEEDS = ("cgroup", "processes", "window")
THRESHOLDS = {"stopped_min": 0.05, "periods_min": 0.1, "run_delay_share": 0.3}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge the quota over the window of load."""
    limit = {**THRESHOLDS, **thresholds}
    reading, group = Reading(evidence), evidence.cgroup
    assert group is not None  # NEEDS
    if not group.cpu_limit_cores or group.window_s <= 0:
        return conclude(ID, evidence, [], "no CPU quota applies to the service")
    stopped = group.throttled_s / group.window_s
    periods = group.throttled_periods / max(1, group.periods)
    clear = f"the quota of {group.cpu_limit_cores:g} cores stops the service for {stopped:.3f} s per second, in {percent(periods)} of the periods"
    if stopped < limit["stopped_min"] and periods < limit["periods_min"]:
        return conclude(ID, evidence, [], clear)
    delay = sum(process.run_delay_s / process.window_s for process in evidence.processes if process.window_s > 0)
    rate = reading.rate_per_s
    excess = sum(step.rate_per_s * max(0.0, step.loaded_s - step.solo_s) for step in reading.steps.values() if step.loaded_s and step.solo_s)
    whole = sum(step.rate_per_s * (step.loaded_s or 0.0) for step in reading.steps.values())
    won = min(whole, max(excess, delay, stopped))
    advice = "raise or remove the CPU limit, or use no more workers and threads than it has cores"
    facts = [clear, f"its threads are runnable and may not run for {delay:.2f} s per second; they use {reading.cores_used or 0:.2f} cores"]
    facts += [f"requests take {ms(whole / rate)} under load"] if rate > 0 else []
    finding = Finding(
        rule=ID,
        confidence=Confidence.LIKELY if delay >= limit["run_delay_share"] * stopped else Confidence.POSSIBLE,
        title=f"the CPU quota of {group.cpu_limit_cores:g} cores stops the service in {percent(periods)} of its periods",
        steps=tuple(reading.steps),
        win_back_s=gain(won, rate, None, "stops of the quota, run delay and latencies"),
        win_back_per_s=won,
        evidence=tuple(facts),
        hypothesis="the service may not use the CPU that the machine has",
        disproof="with a larger quota latency stays the same",
        fix=advice,
        prevention="alert on throttled periods, not on mean CPU use",
        actor="SRE",
        proposals=code_change("a larger CPU quota", None, advice),
    )
    return conclude(ID, evidence, [finding], clear)
