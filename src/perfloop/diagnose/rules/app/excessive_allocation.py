"""A request touches many megabytes of fresh memory.

What it finds
    Endpoints that make the kernel hand out, and clear, many new pages of memory for each request, only to give them back.

Why it costs you
    Each page costs a fault, clearing and cache misses, copying costs the memory's bandwidth, and many such requests at once need that memory at once.

How it decides
    Sent alone, the service's processes take at least ``faults_min`` minor page faults per request (4 kB each) and do not keep the memory; the time is
    there too: its code computes for at least ``share_min`` of the request. Likely from ``likely_faults`` on. The place is the line that computes most.

What would disprove it
    The faults stay when the request asks for nothing: they belong to the framework.

How to fix
    Stream or iterate instead of building whole copies, join instead of adding strings or bytes in a loop, read only the columns that are shown, reuse buffers.

Sources
    Gregg, "Systems Performance" (page faults); Smith & Williams, "Excessive Dynamic Allocation".
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import at, code_change, conclude, gain, ms, percent, place_of, share_of, where
from perfloop.diagnose.hot import computed, hot_functions
from perfloop.diagnose.reading import Reading, StepView
from perfloop.model.evidence import Evidence, Frame, SoloObservation
from perfloop.model.finding import Confidence, Finding, RuleResult

ID = "excessive-allocation"
NEEDS = ("solo", "stacks")
THRESHOLDS = {"faults_min": 1500.0, "likely_faults": 3000.0, "share_min": 0.3}

PAGE_BYTES = 4096


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge every endpoint that was sent alone."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    found: list[Finding] = []
    most = 0.0
    for solo in evidence.solo:
        faults = _faults(solo)
        step = reading.steps[solo.step]
        most = max(most, faults)
        spent = sum(computed(sample) for sample in step.samples)
        if faults >= limit["faults_min"] and step.solo_s and spent >= limit["share_min"] * step.solo_s:
            found.append(_finding(reading, step, solo, faults, limit))
    found.sort(key=lambda finding: -finding.win_back_per_s)
    return conclude(ID, evidence, found, f"no endpoint touches more than {most * PAGE_BYTES / 1e6:.1f} MB of fresh memory per request")


def _faults(solo: SoloObservation) -> float:
    """Page faults per request, without the pages that stayed resident (a heap that grows)."""
    faults = 0.0
    for process in solo.processes:
        series = process.rss_series
        kept = max(0, series[-1][1] - series[0][1]) / PAGE_BYTES if series else 0
        faults += max(0.0, (process.minor_faults or 0) - kept)
    return faults / max(1, solo.requests)


def _finding(reading: Reading, step: StepView, solo: SoloObservation, faults: float, limit: Mapping[str, float]) -> Finding:
    hot = next((one for one in hot_functions(reading, {"share_min": 0.2, "request_min_s": 0.001}) if step.name in one.steps), None)
    place = Frame(function=hot.function, file=hot.file, line=hot.line.line) if hot else step.handler
    spent = sum(computed(sample) for sample in step.samples if hot is None or sample.under(hot.key))
    share = share_of(spent, step.solo_s or 0.0, sum(sample.count for sample in step.samples), "this endpoint alone")
    kernel = sum(process.system_s or 0.0 for process in solo.processes) / max(1, solo.requests)
    advice = "iterate or stream instead of building copies, join once instead of adding in a loop, and read only what is shown"
    facts = [
        f"{faults:,.0f} page faults per request of {step.name}, alone: {faults * PAGE_BYTES / 1e6:.0f} MB of fresh memory ({solo.requests} requests)",
        f"the kernel works for {ms(kernel)} per request, {ms(spent)} of {ms(step.solo_s or 0.0)} are computed here",
    ]
    facts += [f"mostly at {at(place, reading.source_root)} in {place.function}()"] if place else []
    won = spent * step.rate_per_s
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY if faults >= limit["likely_faults"] else Confidence.POSSIBLE,
        title=f"{step.name} touches {faults * PAGE_BYTES / 1e6:.0f} MB of fresh memory per request, in code that takes {percent(share.value)} of its time",
        place=place_of(place),
        steps=(step.name,),
        share=share,
        win_back_s=gain(won, step.rate_per_s, share, "this endpoint alone"),
        win_back_per_s=won,
        evidence=tuple(facts),
        hypothesis="large temporary objects are built and thrown away in each request",
        disproof="a request that asks for nothing takes as many page faults",
        fix=where(place, reading.source_root) + advice,
        prevention="watch minor page faults per request in performance tests",
        proposals=code_change("build fewer copies", place, advice),
    )
