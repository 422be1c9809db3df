"""The service keeps memory for every request that it has answered.

What it finds
    Resident memory that grows with the number of requests and does not level off.

Why it costs you
    It ends in swapping, in ever longer garbage collections, or in the kernel killing the process; a restart only hides it.

How it decides
    After the first ``warmup_share`` of the window, resident memory of a process rises with an interval above zero, by at least ``request_min_bytes``
    per request and ``growth_min_bytes`` in all, in each third of the window. Likely from ``likely_bytes`` in all, else possible. Containers that outlive a call,
    are added to and never emptied in the code that was seen on stacks are named as candidates.

What would disprove it
    More requests of the same kind do not make it grow on: it levels off, so it was a cache or a heap that fills once.

How to fix
    Bound what is kept (a maximum size and a lifetime), or do not keep it; take heap snapshots some thousand requests apart to see which objects stay.

Sources
    Coroot's memory-leak inspection (behaviour); Python documentation, tracemalloc; memray documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from perfloop.diagnose.code import Function, growing_containers
from perfloop.diagnose.finish import conclude, short, unknown
from perfloop.diagnose.reading import Reading
from perfloop.model.base import Estimate
from perfloop.model.evidence import Evidence, ProcessObservation
from perfloop.model.finding import Confidence, Experiment, Finding, Place, Proposal, RuleResult
from perfloop.stats.intervals import slope_interval

ID = "memory-leak"
NEEDS = ("processes", "window")
THRESHOLDS = {"warmup_share": 0.15, "request_min_bytes": 2_000.0, "growth_min_bytes": 1_000_000.0, "likely_bytes": 2_500_000.0, "third_min": 0.12}

POINTS_MIN = 8
_CALLED = re.compile(r"\b(\w+)\(")
SUBJECT = "resident memory"


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge the resident memory of every process of the service."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    rate = reading.rate_per_s
    series = [process for process in evidence.processes if len(process.rss_series) >= POINTS_MIN]
    if not series or rate <= 0:
        return unknown(ID, "resident memory was not sampled often enough, or no request was answered", "measure for longer, on the service's machine")
    found = [finding for process in series if (finding := _finding(reading, process, rate / len(series), limit))]
    found = sorted(found, key=lambda finding: finding.confidence is Confidence.POSSIBLE)[:1]
    steepest = max(growth(process, limit["warmup_share"])[0] for process in series)
    return conclude(ID, evidence, found, f"resident memory changes by {steepest / rate / 1000:.1f} kB per request at most, or not steadily")


def growth(process: ProcessObservation, warmup_share: float) -> tuple[float, float, float, float, list[float]]:
    """Bytes per second with their interval, bytes in all, and the part of the growth in each third, after the warm-up."""
    start, end = process.rss_series[0][0], process.rss_series[-1][0]
    kept = [(t, float(rss)) for t, rss in process.rss_series if t >= start + warmup_share * (end - start)]
    slope, low, high = slope_interval([t for t, _ in kept], [rss for _, rss in kept])
    whole = kept[-1][1] - kept[0][1]
    cuts = [kept[round(part * (len(kept) - 1) / 3)][1] for part in range(4)]
    thirds = [(after - before) / whole if whole > 0 else 0.0 for before, after in pairwise(cuts)]
    return slope, low, high, whole, thirds


def _finding(reading: Reading, process: ProcessObservation, rate: float, limit: Mapping[str, float]) -> Finding | None:
    slope, low, high, whole, thirds = growth(process, limit["warmup_share"])
    per_request = slope / rate
    if low <= 0 or per_request < limit["request_min_bytes"] or whole < limit["growth_min_bytes"] or min(thirds) < limit["third_min"]:
        return None
    suspects = _suspects(reading)
    root = reading.source_root
    facts = [
        f"process {process.pid} grows by {per_request / 1000:.1f} kB per request ({low / rate / 1000:.1f} to {high / rate / 1000:.1f}, {len(process.rss_series)} samples)",
        f"{whole / 1e6:.1f} MB in {process.window_s:.0f} s at {rate:.1f} requests/s, in each third of the window: {', '.join(f'{part:.0%}' for part in thirds)}",
    ]
    facts += [
        f"candidate: {name} in {function.node.name}() at {short(function.file, root)}:{line} is added to and not emptied"
        for function, name, line in suspects[:3]
    ]
    place = Place(file=suspects[0][0].file, line=suspects[0][2], function=suspects[0][0].node.name) if suspects else Place()
    advice = "bound what is kept between requests (size and lifetime), or do not keep it"
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY if whole >= limit["likely_bytes"] else Confidence.POSSIBLE,
        title=f"memory grows by {per_request / 1000:.0f} kB with every request",
        place=place,
        steps=tuple(_steps(reading, suspects)),
        share=None,
        win_back_s=Estimate(value=0.0, unit="s", source="a leak costs memory, not time, until it is full"),
        win_back_per_s=0.0,
        evidence=tuple(facts),
        hypothesis="something is kept for every request",
        disproof="memory levels off when more requests of the same kind are sent",
        experiment=Experiment(
            kind="rate-double",
            params={"subject": SUBJECT, "step": (_steps(reading, suspects) or [""])[0], "bytes_per_request": per_request},
            refutes="if memory does not grow with twice the requests, this is not it",
        ),
        fix=(f"{short(place.file, root)}:{place.line}: " if place.file else "") + advice,
        prevention="a soak test with a limit on the growth of memory per thousand requests",
        proposals=(
            Proposal(
                kind="code",
                title="do not keep memory for every request",
                params={"file": place.file, "line": place.line, "function": place.function, "advice": advice},
            ),
        ),
    )


def _suspects(reading: Reading) -> list[tuple[Function, str, int]]:
    """Growing containers in functions that requests run; lists before mappings keyed by something, which may be bounded by their keys."""
    seen = {(frame.file, frame.function) for sample in reading.loaded for frame in sample.app}
    seen |= {(frame.file, frame.function) for step in reading.steps.values() for sample in step.samples for frame in sample.app}
    known = list(reading.code.functions())
    on_stacks = [function for function in known if (function.file, function.name) in seen]
    called = {name for function in on_stacks for name in _CALLED.findall(function.text)}
    functions: Sequence[Function] = [function for function in known if function in on_stacks or function.node.name in called]
    found = growing_containers(functions)
    text = {item: item[0].text.splitlines()[max(0, item[2] - item[0].shift - 1)] for item in found}
    keeps = (".append(", ".add(", ".extend(", ".appendleft(", "+=")
    return sorted(found, key=lambda item: (item[0] not in on_stacks, not any(call in text[item] for call in keeps)))


def _steps(reading: Reading, suspects: Sequence[tuple[Function, str, int]]) -> list[str]:
    if not suspects:
        return []
    key = (suspects[0][0].file, suspects[0][0].name)
    return [name for name, step in reading.steps.items() if any(sample.under(key) for sample in step.samples)]
