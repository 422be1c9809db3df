"""The service wants more CPU than it has.

What it finds
    A service whose threads wait for a core, because the cores that it may use are busy or its quota is used up.

Why it costs you
    From here on every request waits for others to be computed, and latency grows without bound as the rate rises.

How it decides
    Under load, the service uses at least ``used_min`` of the cores it may use, or those cores are busy that much, or it is throttled; its threads wait
    runnable for at least ``delay_min`` seconds per second; and requests take at least ``slower_min`` times as long as alone. A function, query or algorithm
    that was found to cause it is the cause, and this only its effect.

What would disprove it
    Requests take as long alone as under load.

How to fix
    Make requests cheaper first; then more cores or processes, or a larger quota.

Sources
    Gregg, the USE method (utilisation, saturation, errors); Linux kernel documentation on schedstat and CFS bandwidth.
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import conclude, gain, ms, percent, share_of
from perfloop.diagnose.reading import Reading
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, Proposal, RuleResult

ID = "cpu-saturated"
NEEDS = ("processes", "window")
THRESHOLDS = {"used_min": 0.9, "delay_min": 0.2, "slower_min": 1.5, "request_min_s": 0.005}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge the CPU of the service's processes together."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    used = reading.cores_used or 0.0
    cores, allowed = allowed_cores(evidence)
    delay = sum(process.run_delay_s / process.window_s for process in evidence.processes if process.window_s > 0)
    throttled = sum(process.throttled_s / process.window_s for process in evidence.processes if process.window_s > 0)
    busy = _busy(evidence, allowed)
    steps = [step for step in reading.steps.values() if step.loaded_s and step.solo_s and step.loaded_s >= limit["slower_min"] * step.solo_s]
    rate = sum(step.rate_per_s for step in steps)
    excess = sum(step.rate_per_s * ((step.loaded_s or 0.0) - (step.solo_s or 0.0)) for step in steps)
    full = used >= limit["used_min"] * cores or throttled >= limit["delay_min"]
    crowded = busy is not None and busy >= limit["used_min"]
    clear = f"the service uses {used:.2f} of {cores:g} cores, and its threads wait {delay:.2f} s per second for one"
    if not (full or crowded) or max(delay, throttled) < limit["delay_min"] or rate <= 0 or excess / rate < limit["request_min_s"]:
        return conclude(ID, evidence, [], clear)
    whole = sum(step.rate_per_s * (step.loaded_s or 0.0) for step in steps)
    share = share_of(excess, whole, 0, "latency under load against alone")
    won = min(excess, max(delay, throttled))
    facts = [clear]
    if busy is not None:
        facts.append(f"the cores it may use are {percent(busy)} busy")
    if throttled > 0:
        facts.append(f"its quota stops it for {throttled:.2f} s per second")
    facts.append(f"requests take {ms(whole / rate)} under load and {ms((whole - excess) / rate)} alone")
    finding = Finding(
        rule=ID,
        confidence=Confidence.LIKELY if full else Confidence.POSSIBLE,
        title=f"the service needs more than its {cores:g} cores" if full else "the service's cores are taken by others too",
        steps=tuple(step.name for step in sorted(steps, key=lambda step: -(step.loaded_s or 0.0))),
        share=share,
        win_back_s=gain(won, rate, None, "run delay of threads"),
        win_back_per_s=won,
        evidence=tuple(facts),
        hypothesis="threads are ready to run and find no core",
        disproof="requests take as long alone as under load",
        fix="make requests cheaper; then add cores or processes, or raise the CPU quota",
        prevention="alert on run delay (CPU pressure), not on utilisation alone",
        actor="SRE",
        proposals=(Proposal(kind="code", title="more CPU, or less work", params={"advice": "add worker processes on further cores, or raise the CPU quota"}),),
    )
    return conclude(ID, evidence, [finding], clear)


def allowed_cores(evidence: Evidence) -> tuple[float, set[int]]:
    """How many cores the service can use (affinity, then quota), and which."""
    cpus: set[int] = set()
    limits = []
    for process in evidence.target.processes:
        cpus |= set(process.cpus)
        if process.cpu_limit_cores:
            limits.append(process.cpu_limit_cores)
    cores = float(len(cpus) or evidence.target.cpu_count)
    return min([cores, *limits]), cpus


def _busy(evidence: Evidence, allowed: set[int]) -> float | None:
    if evidence.host is None or not evidence.host.cpu_busy:
        return None
    host = evidence.host
    busy = [share for cpu, share in enumerate(host.cpu_busy) if not allowed or cpu in allowed]
    yielded = sum(other.cpu_s for other in host.others if other.yields and (not allowed or not other.cpus or set(other.cpus) & allowed))
    return max(0.0, sum(busy) - yielded / max(host.window_s, 1e-9)) / len(busy) if busy else None  # what the idle would take is free
