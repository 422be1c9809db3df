"""When a cached value runs out, many requests compute it at once.

What it finds
    Functions that keep their result for a while, and that are computed by many requests at the same time whenever it has run out.

Why it costs you
    The dearest work of the service is done ten times over at the very moment when it is wanted most; under load it never gets done in time to be kept.

How it decides
    A function keeps its result (as in ``cache-ineffective``). Sent alone, the endpoint is inside the work behind it for at most ``alone_max`` of the
    time: the cache works. However many ask, one refresh per lifetime would be enough, so the seconds spent behind it per second should not grow with
    the load; they are at least ``times_min`` times as many under load, and at least ``load_min_s`` per second.

What would disprove it
    The work is done once per lifetime under load as well.

How to fix
    Let one request refresh and give the others the old value (a lock that is not waited for), refresh before it runs out (probabilistically or in the background).

Sources
    Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention" (VLDB 2015); Nygard, "Release It!" (dogpile).
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.code import Function
from perfloop.diagnose.finish import at, code_change, conclude, gain, percent, place_of, share_of, short, where
from perfloop.diagnose.reading import Reading, Sample, StepView
from perfloop.diagnose.rules.cache.cache_ineffective import behind, cached_functions
from perfloop.model.evidence import Evidence, Frame
from perfloop.model.finding import Confidence, Finding, RuleResult

ID = "cache-stampede"
NEEDS = ("solo", "stacks", "source")
THRESHOLDS = {"alone_max": 0.5, "times_min": 3.0, "load_min_s": 0.25}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge every function that keeps its result."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    found: list[Finding] = []
    for step in reading.steps.values():
        solo = next((item for item in evidence.solo if item.step == step.name), None)
        if solo is None or solo.window_s <= 0 or not step.solo_s:
            continue
        loaded = reading.by_step.get(step.name, ())
        for key, (function, memo) in cached_functions(reading, [*step.samples, *loaded]).items():
            alone = sum(sample.total for sample in step.samples if _works(reading, sample, key, function)) * solo.requests / solo.window_s
            under = [sample for sample in loaded if _works(reading, sample, key, function)]
            spent = sum(sample.total for sample in under)
            if alone <= limit["alone_max"] and spent >= limit["load_min_s"] and spent >= limit["times_min"] * max(alone, 1e-3):
                found.append(_finding(reading, step, function, memo.how, under, spent, alone))
    found.sort(key=lambda finding: -finding.win_back_per_s)
    return conclude(ID, evidence, found[:1], "no work behind a cache is done by several requests at once")


def _works(reading: Reading, sample: Sample, key: tuple[str, int], function: Function) -> bool:
    """True where the sample is in what the caching function calls: another function of the application, or a library."""
    if not behind(reading, sample, key, function):
        return False
    return bool(sample.beneath) or (sample.app[-1].file, sample.app[-1].function) != (function.file, function.name)


def _finding(reading: Reading, step: StepView, function: Function, how: str, samples: list[Sample], spent: float, alone: float) -> Finding:
    lines: dict[int, float] = {}
    for sample in samples:
        for frame in sample.app:
            around = reading.code.function(frame.file, frame.line)
            if around is not None and frame.file == function.file and around.shift == function.shift:
                lines[frame.line] = lines.get(frame.line, 0.0) + sample.total
    place = Frame(function=function.node.name, file=function.file, line=max(lines, key=lambda line: lines[line]))
    whole = max(reading.loaded_time(step.name), spent)
    share = share_of(spent, whole, sum(sample.count for sample in samples), "stacks under load")
    won = spent - alone
    advice = "let one request refresh the value while the others get the old one, or refresh it before it runs out"
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY,
        title=f"many requests compute {function.node.name}() at once when its kept value runs out",
        place=place_of(place),
        steps=(step.name,),
        share=share,
        win_back_s=gain(won, step.rate_per_s, share, "stacks under load"),
        win_back_per_s=won,
        evidence=(
            f"{function.node.name}() keeps its result ({how}, {short(function.file, reading.source_root)})",
            f"one user keeps it busy for {alone:.2f} s per second, the load for {spent:.2f} s per second: {spent / max(alone, 1e-3):.0f} times, where one refresh per lifetime would do for both",
            f"computed under {at(place, reading.source_root)}, {percent(spent / whole)} of the time of {step.name}",
        ),
        hypothesis="all requests that find the value too old compute it themselves",
        disproof="under load the work is done once per lifetime as well",
        fix=where(place, reading.source_root) + advice,
        prevention="a load test that lasts for several lifetimes of each cache",
        proposals=code_change(f"refresh {function.node.name}() once", place, advice),
    )
