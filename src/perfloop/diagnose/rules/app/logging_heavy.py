"""A request spends its time writing log lines.

What it finds
    Endpoints that spend a good part of their time below a logging library, formatting, waiting for the handler's lock, or writing.

Why it costs you
    A log handler has one lock and writes at once: a line for each row makes every request of the process queue for the same file.

How it decides
    Sent alone, at least ``share_min`` of the endpoint's time and ``request_min_s`` per request are samples, computing or waiting, below a logging library's
    frames, or at a line that prints. Likely from ``likely_s`` per request on.

What would disprove it
    The endpoint is as slow with that logger's level raised.

How to fix
    One line per request instead of one per row, a higher level for details, lazy arguments, and a queue handler that writes in another thread.

Sources
    Python documentation, "Logging Cookbook: Dealing with handlers that block"; Smith & Williams, "One-Lane Bridge".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from perfloop.diagnose.calls import repeated_place
from perfloop.diagnose.finish import at, code_change, conclude, gain, ms, percent, place_of, share_of, where
from perfloop.diagnose.frames import library_path
from perfloop.diagnose.reading import Reading, Sample, StepView
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, RuleResult

ID = "logging-heavy"
NEEDS = ("solo", "stacks")
THRESHOLDS = {"share_min": 0.2, "request_min_s": 0.001, "likely_s": 0.002}

_FILES = re.compile(r"^/(logging/|loguru/|structlog/|logbook/|eliot/|pythonjsonlogger/)")
_CALLS = re.compile(r"^(print\(|sys\.std(out|err)\.write\(|pprint\()")


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge every endpoint that was sent alone."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    found: list[Finding] = []
    for step in reading.steps.values():
        samples = [sample for sample in step.samples if sample.app and _logs(reading, sample)]
        spent = sum(sample.total for sample in samples)
        if step.solo_s and spent >= max(limit["share_min"] * step.solo_s, limit["request_min_s"]):
            found.append(_finding(reading, step, samples, spent, limit))
    found.sort(key=lambda finding: -finding.win_back_per_s)
    return conclude(ID, evidence, found, f"no endpoint spends {percent(limit['share_min'])} and {ms(limit['request_min_s'])} of a request on logging")


def _logs(reading: Reading, sample: Sample) -> bool:
    if sample.beneath:
        return bool(_FILES.search(library_path(sample.beneath[0].file)))
    return sample.place is not None and bool(_CALLS.search(reading.code.text(sample.place)))


def _finding(reading: Reading, step: StepView, samples: Sequence[Sample], spent: float, limit: Mapping[str, float]) -> Finding:
    place, held = repeated_place(reading, samples)
    looped = place is not None and reading.code.in_loop(place)
    share = share_of(spent, step.solo_s or 0.0, sum(sample.count for sample in step.samples), "this endpoint alone")
    advice = "log once per request, raise the level of details, and write through a queue handler"
    facts = [f"{step.name} spends {ms(spent)} of {ms(step.solo_s or 0.0)} per request on logging, alone ({step.requests} requests)"]
    if place:
        facts.append(f"{percent(held / spent)} of that under {at(place, reading.source_root)} in {place.function}()" + (", inside a loop" if looped else ""))
    won = spent * step.rate_per_s
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY if spent >= limit["likely_s"] else Confidence.POSSIBLE,
        title=f"{step.name} spends {percent(spent / (step.solo_s or spent))} of its time on logging",
        place=place_of(place),
        steps=(step.name,),
        share=share,
        win_back_s=gain(won, step.rate_per_s, share, "this endpoint alone"),
        win_back_per_s=won,
        evidence=tuple(facts),
        hypothesis="more is logged than anybody reads, at once and one line at a time",
        disproof="the endpoint is as slow with that logger's level raised",
        fix=where(place, reading.source_root) + advice,
        prevention="no log call inside loops of a request; a limit on lines per request",
        proposals=code_change("log less in the request", place, advice),
    )
