"""One function of the application computes for most of a request.

What it finds
    The innermost function of the service's own code that owns a good part of an endpoint's time by computing, its library calls included.

Why it costs you
    Computing cannot overlap in one Python process: what one request computes, all others wait for, and the core is the limit of the throughput.

How it decides
    Sent alone, at least ``share_min`` of the endpoint's time and ``request_min_s`` per request are samples on a CPU inside one function (database drivers,
    object mappers and HTTP clients do not count). Likely from ``likely_s`` per request on, else possible.

What would disprove it
    The endpoint alone spends its time waiting; or the function's cost grows faster than its input: then the algorithm is the finding.

How to fix
    Do less (cache, precompute, only what the page shows), use a better algorithm or a compiled library, or move it out of the request.

Sources
    Gregg, "Systems Performance" (CPU profiling); py-spy documentation on active threads.
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import at, conclude, gain, ms, percent, share_of, short
from perfloop.diagnose.hot import Hot, hot_functions, library_under, queueing
from perfloop.diagnose.reading import Reading
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Experiment, Finding, Place, Proposal, RuleResult

ID = "cpu-hot-spot"
NEEDS = ("solo", "stacks")
THRESHOLDS = {"share_min": 0.4, "request_min_s": 0.003, "likely_s": 0.005}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge the hot function of every endpoint that was sent alone."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    found = [_finding(reading, hot, limit) for hot in hot_functions(reading, limit)]
    return conclude(ID, evidence, found, f"no function computes {percent(limit['share_min'])} and {ms(limit['request_min_s'])} of a request")


def _finding(reading: Reading, hot: Hot, limit: Mapping[str, float]) -> Finding:
    step = reading.steps[hot.steps[0]]
    rate = sum(reading.steps[name].rate_per_s for name in hot.steps)
    won = hot.per_s + queueing(reading, hot.per_s)
    share = share_of(hot.per_request_s, hot.solo_s, hot.samples, "this endpoint alone")
    root = reading.source_root
    library = library_under([sample for sample in step.samples if sample.under(hot.key)], hot.line)
    facts = [
        f"{hot.function}() computes {ms(hot.per_request_s)} of {ms(hot.solo_s)} per request of {hot.steps[0]}, alone ({step.requests} requests, {hot.samples:.0f} samples)",
        f"most of it at {at(hot.line, root)}" + (f", in {library}()" if library else ""),
    ]
    if step.cpu_s is not None:
        facts.append(f"the service's processes use {ms(step.cpu_s)} of CPU per request of {step.name}")
    if reading.cores_used is not None:
        facts.append(f"under load they use {reading.cores_used:.2f} cores, of which this about {hot.per_s:.2f}")
    advice = "compute less per request, use a better algorithm or a compiled library, or move it out of the request"
    function = reading.code.function(hot.line.file, hot.line.line)
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY if hot.per_request_s >= limit["likely_s"] else Confidence.POSSIBLE,
        title=f"{hot.function}() computes {percent(hot.per_request_s / hot.solo_s)} of {hot.steps[0]}",
        place=Place(file=hot.file, line=hot.line.line, function=hot.function),
        steps=hot.steps,
        share=share,
        win_back_s=gain(won, rate, share, "this endpoint alone"),
        win_back_per_s=won,
        evidence=tuple(facts),
        hypothesis=f"{hot.function}() does more work than the request needs",
        disproof="the endpoint alone spends its time waiting, not computing",
        experiment=Experiment(
            kind="cpu-less",
            params={"subject": f"{hot.file}:{hot.function}", "step": hot.steps[0], "cpu_s": hot.per_request_s, "share": hot.per_request_s / hot.solo_s},
            refutes="if requests are as fast when another process takes CPU away, they do not wait for computing",
        ),
        fix=f"{short(hot.file, root)}:{hot.line.line}: {advice}",
        prevention="a CPU budget per request in performance tests",
        proposals=(
            Proposal(
                kind="code",
                title=f"make {hot.function}() cheaper",
                params={"file": hot.file, "line": hot.line.line, "function": hot.function, "advice": advice, "now": function.text if function else ""},
            ),
        ),
    )
