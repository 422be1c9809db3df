"""Memory is so short that work waits for it.

What it finds
    Machines or containers in which tasks stall because memory must be reclaimed first, or that reach their memory limit.

Why it costs you
    Pages that were just thrown away are read again, each allocation waits for another's memory, and the next step is the kernel killing the service.

How it decides
    The service itself took at least ``faults_min`` major page faults while tasks stalled on memory for at least ``stall_min`` of the window (PSI) or the group's
    memory limit made the kernel reclaim at least ``hits_min`` times; or something of it was killed for lack of memory. Likely from ``likely_stall`` on, or where one was killed.

What would disprove it
    With more memory latency stays the same.

How to fix
    Find what keeps the memory (``memory-leak``, caches without a bound, too many workers), then raise the limit.

Sources
    Linux kernel documentation, PSI and cgroup memory.events; Coroot's memory inspections (behaviour: stall above 0.02 s per second).
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import code_change, conclude, gain, percent
from perfloop.diagnose.reading import Reading
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, RuleResult

ID = "memory-pressure"
NEEDS = ("host", "processes", "window")
THRESHOLDS = {"stall_min": 0.02, "likely_stall": 0.1, "hits_min": 5.0, "faults_min": 20.0}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge the machine's stalls and the group's limit."""
    limit = {**THRESHOLDS, **thresholds}
    reading, host, group = Reading(evidence), evidence.host, evidence.cgroup
    assert host is not None  # NEEDS
    stall = host.psi_memory_some or 0.0
    hits, kills = (group.memory_limit_hits or 0, group.oom_kills or 0) if group else (0, 0)
    faults = sum(process.major_faults for process in evidence.processes)
    free = host.memory_available_bytes / host.memory_total_bytes if host.memory_total_bytes else 1.0
    clear = f"tasks stall on memory for {percent(stall)} of the window, {percent(free)} of it is available, and the service took {faults} major page faults"
    suffers = faults >= limit["faults_min"]
    if not kills and not (suffers and (stall >= limit["stall_min"] or hits >= limit["hits_min"])):
        return conclude(ID, evidence, [], clear)
    facts = [clear]
    if group and group.memory_limit_bytes:
        used = f"{(group.memory_used_bytes or 0) / 1e6:.0f} of {group.memory_limit_bytes / 1e6:.0f} MB"
        facts.append(f"its group uses {used}, reached its limit {hits} times, and lost {kills} processes to it")
    advice = "find what keeps the memory (a leak, a cache without a bound, too many workers), then raise the limit"
    finding = Finding(
        rule=ID,
        confidence=Confidence.LIKELY if stall >= limit["likely_stall"] or kills or hits >= 10 * limit["hits_min"] else Confidence.POSSIBLE,
        title=f"work waits for memory for {percent(stall)} of the time" if stall >= limit["stall_min"] else "the memory limit of the service is reached",
        steps=tuple(reading.steps),
        win_back_s=gain(stall, reading.rate_per_s, None, "pressure stall information of the machine"),
        win_back_per_s=stall,
        evidence=tuple(facts),
        hypothesis="memory must be taken from one before another can have it",
        disproof="with more memory latency stays the same",
        fix=advice,
        prevention="alert on memory pressure (PSI) and on memory.events, not on use",
        actor="SRE",
        proposals=code_change("less memory, or a larger limit", None, advice),
    )
    return conclude(ID, evidence, [finding], clear)
