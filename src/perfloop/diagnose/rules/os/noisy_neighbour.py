"""Other processes take the cores that the service needs.

What it finds
    Services that wait for a core although they use little themselves, because processes that are no part of them keep the same cores busy, or the hypervisor does.

Why it costs you
    Each time slice that another gets is added to your requests; it comes and goes with the neighbour's work and cannot be seen in your own code.

How it decides
    Under load the service's threads are runnable without a core for at least ``delay_min`` of the time that they compute, no quota explains it, and others
    (neither the service, nor what it talks to, nor perfloop, nor those that yield to everybody: SCHED_IDLE, nice 19) use at least ``others_min`` of the cores that the service may use; or at least
    ``steal_min`` of the machine's time is stolen by the hypervisor. Likely where they use more than the service, and the wait is at least
    ``likely_share`` of the requests' time.

What would disprove it
    With the other process stopped or moved to another core the service waits as long.

How to fix
    Move the neighbour (cpuset, taskset, another machine), lower its weight (nice, ``cpu.weight``), or reserve cores for the service.

Sources
    Gregg, "Systems Performance" (run-queue latency, steal); Linux kernel documentation, schedstat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perfloop.diagnose.finish import code_change, conclude, gain, percent
from perfloop.diagnose.reading import Reading
from perfloop.diagnose.rules.os.cpu_saturated import allowed_cores
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, RuleResult
from perfloop.model.signals import OtherProcess

ID = "noisy-neighbour"
NEEDS = ("host", "processes", "window")
THRESHOLDS = {"delay_min": 0.5, "others_min": 0.3, "steal_min": 0.1, "request_min_s": 0.003, "likely_share": 0.4}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge who uses the service's cores beside it."""
    limit = {**THRESHOLDS, **thresholds}
    reading, host = Reading(evidence), evidence.host
    assert host is not None  # NEEDS
    cores, allowed = allowed_cores(evidence)
    used = reading.cores_used or 0.0
    delay = sum(process.run_delay_s / process.window_s for process in evidence.processes if process.window_s > 0)
    throttled = sum(process.throttled_s / process.window_s for process in evidence.processes if process.window_s > 0)
    others = [other for other in host.others if not other.related and not other.yields and (not allowed or not other.cpus or set(other.cpus) & allowed)]
    taken = sum(other.cpu_s for other in others) / max(host.window_s, 1e-9)
    rate = reading.rate_per_s
    clear = f"others use {taken:.2f} cores of those that the service may use, {percent(host.steal_share)} is stolen, and its threads wait {delay:.2f} s per second for a core"
    crowded = taken >= limit["others_min"] * cores or host.steal_share >= limit["steal_min"]
    if not crowded or delay - throttled < limit["delay_min"] * used or rate <= 0 or (delay - throttled) / rate < limit["request_min_s"]:
        return conclude(ID, evidence, [], clear)
    return conclude(ID, evidence, [_finding(reading, others, taken, used, delay - throttled, clear, limit)], clear)


def _finding(reading: Reading, others: Sequence[OtherProcess], taken: float, used: float, delay: float, clear: str, limit: Mapping[str, float]) -> Finding:
    host = reading.evidence.host
    assert host is not None
    worst = sorted(others, key=lambda other: -other.cpu_s)[:3]
    names = ", ".join(f"{other.name} (pid {other.pid}, {other.cpu_s / host.window_s:.2f} cores)" for other in worst)
    whole = sum(step.rate_per_s * (step.loaded_s or 0.0) for step in reading.steps.values())
    won = min(delay, whole)
    likely = (taken > used or host.steal_share > used) and delay >= limit["likely_share"] * whole
    advice = "move the neighbour to other cores or another machine, or give the service a larger share (cpuset, cpu.weight, nice)"
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY if likely else Confidence.POSSIBLE,
        title=f"{worst[0].name} and others take the service's cores" if worst else "the hypervisor takes the service's cores",
        steps=tuple(reading.steps),
        win_back_s=gain(won, reading.rate_per_s, None, "run delay of threads"),
        win_back_per_s=won,
        evidence=(clear, f"the service itself uses {used:.2f} cores", *([f"who: {names}"] if names else [])),
        hypothesis="the service is ready to run and others have the core",
        disproof="with the neighbour stopped the service waits as long",
        fix=advice,
        prevention="reserved cores for the service; alert on its run delay",
        actor="SRE",
        proposals=code_change("separate the neighbour", None, advice),
    )
