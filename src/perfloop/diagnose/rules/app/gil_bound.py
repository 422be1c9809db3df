"""Threads of one Python process wait for one another at the interpreter's lock, while cores are idle.

What it finds
    Processes whose threads are ready to compute but may not, because only one of them may run Python code at a time.

Why it costs you
    However many threads and cores there are, the process computes on one; more threads only make each request slower.

How it decides
    Under load one process uses between ``core_min`` and ``core_max`` of a core, it may use more cores than that, and they are free for it: at least ``idle_min`` of them is idle,
    or its threads wait for a core for at most ``delay_max`` of the time that they compute. Its request threads wait, at lines of its own code or below libraries that only compute, for at least ``share_min`` of the requests' time and ``request_min_s`` per
    request; sent alone they do not wait there.

What would disprove it
    With twice the processes the throughput stays the same.

How to fix
    Several worker processes, one per core; or the hot part in a process pool or in native code that gives the lock back. And less computing.

Sources
    Beazley, "Understanding the Python GIL"; Coroot's Python GIL inspection (behaviour).
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import at, code_change, conclude, gain, ms, percent, place_of, share_of
from perfloop.diagnose.frames import Doing
from perfloop.diagnose.reading import Reading, Sample, by_place
from perfloop.diagnose.rules.os.cpu_saturated import allowed_cores
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, RuleResult

ID = "gil-bound"
NEEDS = ("stacks", "processes", "window", "host")
THRESHOLDS = {"core_min": 0.75, "core_max": 1.2, "share_min": 0.2, "request_min_s": 0.003, "idle_min": 0.25, "delay_max": 0.35}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge the busiest Python process of the service."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    sampled = {stacks.pid for stacks in evidence.stacks}
    processes = [process for process in evidence.processes if process.pid in sampled and process.window_s > 0]
    used = max((process.cpu_s / process.window_s for process in processes), default=0.0)
    cores, allowed = allowed_cores(evidence)
    waiting = [sample for sample in reading.loaded if _for_lock(sample)]
    waited = sum(sample.wait for sample in waiting)
    rate = reading.rate_per_s
    clear = f"the busiest process uses {used:.2f} of {cores:g} cores, and requests wait {waited:.2f} s per second at lines that only compute"
    delay = max((process.run_delay_s / process.window_s for process in processes), default=0.0)
    free = _idle(evidence, allowed) >= limit["idle_min"] or delay <= limit["delay_max"] * used
    if not limit["core_min"] <= used <= limit["core_max"] or cores < 1.5 or not free or rate <= 0:
        return conclude(ID, evidence, [], clear)
    alone = sum(sample.wait * step.rate_per_s for step in reading.steps.values() for sample in step.samples if _for_lock(sample))
    whole = sum(reading.loaded_time(name) for name in reading.steps)
    if waited < limit["share_min"] * whole or waited / rate < limit["request_min_s"] or alone > 0.3 * waited:
        return conclude(ID, evidence, [], clear)
    return conclude(ID, evidence, [_finding(reading, waiting, waited, whole, used, cores)], clear)


def _for_lock(sample: Sample) -> bool:
    """Waiting with no known reason, in code that only computes."""
    return sample.waits_for is Doing.OTHER and sample.layer is None and not sample.on_loop and sample.wait > 0


def _idle(evidence: Evidence, allowed: set[int]) -> float:
    """Idle cores among those that the service may use."""
    busy = evidence.host.cpu_busy if evidence.host else ()
    return sum(1 - share for cpu, share in enumerate(busy) if not allowed or cpu in allowed)


def _finding(reading: Reading, waiting: list[Sample], waited: float, whole: float, used: float, cores: float) -> Finding:
    count = sum(sample.count for sample in waiting)
    share = share_of(waited, whole, count / max(waited / whole, 1e-9) if whole else count, "stacks under load")
    place = next((frame for frame, _ in by_place(waiting, lambda sample: sample.wait)), None)
    threads = len({sample.thread for sample in waiting})
    rate = reading.rate_per_s
    steps = tuple(reading.steps_of(waiting))
    advice = "run several worker processes (one per core), and make the hot function cheaper or native"
    facts = [
        f"one process uses {used:.2f} cores and may use {cores:g}; {threads} of its threads wait for one another",
        f"requests wait {ms(waited / rate)} each at lines that only compute, {percent(waited / max(whole, 1e-9))} of their time ({count:.0f} samples); sent alone they do not",
    ]
    facts += [f"most at {at(place, reading.source_root)} in {place.function}()"] if place else []
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY,
        title="threads wait for the interpreter's lock while cores are idle",
        place=place_of(place),
        steps=steps,
        share=share,
        win_back_s=gain(waited, rate, share, "stacks under load"),
        win_back_per_s=waited,
        evidence=tuple(facts),
        hypothesis="one thread at a time may run Python code, and that one core is used up",
        disproof="with twice the processes the throughput stays the same",
        fix=advice,
        prevention="size workers by processes, not by threads, for code that computes",
        actor="devops engineer",
        proposals=code_change("more worker processes", place, advice),
    )
