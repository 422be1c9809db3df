"""An answer is very large.

What it finds
    Endpoints that send hundreds of kilobytes or more per answer.

Why it costs you
    Building and copying it takes time here, sending it takes seconds over a phone, and the reader parses all of it to show a part.

How it decides
    One answer, as a client that accepts gzip gets it, has at least ``bytes_min`` bytes. Likely from ``likely_bytes`` on. A long list is ``no-pagination``.

What would disprove it
    The client needs every byte at once (a download).

How to fix
    Send what is shown: fewer fields, links to attachments instead of their content, pages; then compress.

Sources
    Sentry, "Large HTTP payload" (behaviour: from 300 kB); web.dev, "Optimize the encoding and transfer size of text-based assets".
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import at, code_change, conclude, gain, ms, place_of, where
from perfloop.diagnose.frames import Doing
from perfloop.diagnose.reading import Reading, StepView
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, RuleResult
from perfloop.model.signals import ResponseObservation

ID = "large-payload"
NEEDS = ("responses",)
THRESHOLDS = {"bytes_min": 300_000.0, "likely_bytes": 600_000.0}

_AWAY = (Doing.DATABASE, Doing.HTTP, Doing.CACHE)


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge one answer of every endpoint."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    found = [
        _finding(reading, reading.steps[one.step], one, limit)
        for one in evidence.responses
        if one.body_bytes >= limit["bytes_min"] and one.step in reading.steps
    ]
    found.sort(key=lambda finding: -finding.win_back_per_s)
    most = max((answer.body_bytes for answer in evidence.responses), default=0)
    return conclude(ID, evidence, found, f"the largest answer has {most:,} bytes")


def _finding(reading: Reading, step: StepView, answer: ResponseObservation, limit: Mapping[str, float]) -> Finding:
    place = step.handler
    others = sum(sample.total for sample in step.samples if sample.layer in _AWAY or sample.waits_for in _AWAY)
    spent = max(0.0, (step.solo_s or 0.0) - others)  # building, encoding and sending it
    won = spent * step.rate_per_s
    advice = "send what is shown: fewer fields, links instead of contents, pages; then compress it"
    facts = [f"one answer of {step.name} has {answer.body_bytes:,} bytes ({answer.content_type or 'no type'}, {answer.content_encoding or 'not compressed'})"]
    facts += (
        [
            f"building and sending it takes at most {ms(spent)} of {ms(step.solo_s)} alone, {answer.body_bytes * step.rate_per_s / 1e6:.1f} MB a second under load"
        ]
        if step.solo_s
        else []
    )
    facts += [f"handled at {at(place, reading.source_root)} in {place.function}()"] if place else []
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY if answer.body_bytes >= limit["likely_bytes"] else Confidence.POSSIBLE,
        title=f"{step.name} answers with {answer.body_bytes / 1e6:.1f} MB",
        place=place_of(place),
        steps=(step.name,),
        win_back_s=gain(won, step.rate_per_s, None, "alone, what is neither database nor other services"),
        win_back_per_s=won,
        evidence=tuple(facts),
        hypothesis="more is sent than the client shows",
        disproof="the client needs every byte at once",
        fix=where(place, reading.source_root) + advice,
        prevention="a limit on the size of answers in tests",
        proposals=code_change("send less", place, advice),
    )
