"""The garbage collector runs for a good part of the requests' time.

What it finds
    Services that spend much of their time in Python's cyclic garbage collector, and the code that makes it run.

Why it costs you
    A collection stops every thread of the process; it comes when objects are made, so the requests that build many pay for all, and a large heap makes each full one long.

How it decides
    The collector's own flag, read from outside, is up in at least ``share_min`` of the time in which the endpoint alone is answered and for
    ``request_min_s`` per request, or in ``load_min`` of the window under load. Likely from ``likely_share`` on. The place is the line that computes most there.

What would disprove it
    With the collector frozen or its threshold raised (``gc.freeze()``, ``gc.set_threshold(50_000)``) requests take as long.

How to fix
    Make fewer objects that refer to one another (plain tuples, generators, no parent links), ``gc.freeze()`` after start-up, a higher threshold for the young generation.

Sources
    Python documentation, module gc; Instagram engineering, "Dismissing Python Garbage Collection"; Smith & Williams, "Excessive Dynamic Allocation".
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import at, code_change, conclude, gain, ms, percent, place_of, share_of, where
from perfloop.diagnose.hot import hot_functions
from perfloop.diagnose.reading import Reading
from perfloop.model.base import Estimate
from perfloop.model.evidence import Evidence, Frame, SoloObservation
from perfloop.model.finding import Confidence, Finding, RuleResult

ID = "gc-pressure"
NEEDS = ("collector", "window")
THRESHOLDS = {"share_min": 0.2, "load_min": 0.15, "likely_share": 0.25, "request_min_s": 0.002}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge the collector under load and with each endpoint alone."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    samples = sum(one.samples for one in evidence.collector)
    loaded = sum(one.collecting for one in evidence.collector) / max(1, max((one.samples for one in evidence.collector), default=0))
    alone = {solo.step: _share(solo) for solo in evidence.solo if solo.collector}
    worst = max(alone, key=lambda name: alone[name] * reading.steps[name].rate_per_s * (reading.steps[name].solo_s or 0.0), default="")
    clear = f"the garbage collector runs for {percent(loaded)} of the window under load"
    if not worst:
        return conclude(ID, evidence, [], clear)
    step = reading.steps[worst]
    spent = alone[worst] * (step.solo_s or 0.0)
    if (alone[worst] < limit["share_min"] and loaded < limit["load_min"]) or spent < limit["request_min_s"]:
        return conclude(ID, evidence, [], clear)
    hot = next((one for one in hot_functions(reading, {"share_min": 0.2, "request_min_s": limit["request_min_s"]}) if worst in one.steps), None)
    place = Frame(function=hot.function, file=hot.file, line=hot.line.line) if hot else step.handler
    share = share_of(alone[worst], 1.0, _count(evidence, worst), "the collector's flag, this endpoint alone")
    won = max(spent * step.rate_per_s, loaded)
    return conclude(ID, evidence, [_finding(reading, worst, place, share, spent, won, loaded, samples, alone[worst] >= limit["likely_share"])], clear)


def _share(solo: SoloObservation) -> float:
    return sum(one.collecting for one in solo.collector) / max(1, max(one.samples for one in solo.collector))


def _count(evidence: Evidence, name: str) -> int:
    return max((one.samples for solo in evidence.solo if solo.step == name for one in solo.collector), default=0)


def _finding(reading: Reading, name: str, place: Frame | None, share: Estimate, spent: float, won: float, loaded: float, samples: int, likely: bool) -> Finding:
    step, evidence = reading.steps[name], reading.evidence
    counts = [sum(values) for values in zip(*(one.collections for one in evidence.collector if one.collections), strict=False)]
    window_s = max(one.window_s for one in evidence.collector)
    facts = [
        f"the collector runs for {ms(spent)} of {ms(step.solo_s or 0.0)} per request of {name}, alone, and for {percent(loaded)} of the window under load ({samples} looks)",
    ]
    if counts:
        facts.append(f"collections in {window_s:.0f} s, youngest generation first: {', '.join(f'{count:,}' for count in counts)}")
    facts += [f"objects are made mostly at {at(place, reading.source_root)} in {place.function}()"] if place else []
    advice = "make fewer objects that hold one another, gc.freeze() after start-up, and raise the threshold of the young generation"
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY if likely else Confidence.POSSIBLE,
        title=f"the garbage collector takes {percent(share.value)} of {name}",
        place=place_of(place),
        steps=(name,),
        share=share,
        win_back_s=gain(won, step.rate_per_s, share, "the collector's flag"),
        win_back_per_s=won,
        evidence=tuple(facts),
        hypothesis="so many objects are made that collecting them costs as much as the work",
        disproof="with a higher threshold of the collector requests take as long",
        fix=where(place, reading.source_root) + advice,
        prevention="watch collections per request; a memory and object budget in performance tests",
        proposals=code_change("make fewer objects", place, advice),
    )
