"""A list is sent whole, however long it is.

What it finds
    Endpoints whose answer lists a great many items at once.

Why it costs you
    The list grows with the data: reading, building, encoding and sending it takes longer every month, until one request takes the memory of many.

How it decides
    One answer of the endpoint holds a JSON array of at least ``items_min`` items, with at least ``item_min_bytes`` each on average, and the endpoint takes
    at least ``request_min_s`` alone. Likely from ``likely_items`` on.

What would disprove it
    The number of items is bounded by something other than the data (a fixed catalogue).

How to fix
    A limit with a cursor (``WHERE id > last ORDER BY id LIMIT n``) and an upper bound that the server enforces; streaming for exports.

Sources
    ICSE 2018, Yang et al. (content without pagination); https://use-the-index-luke.com/no-offset.
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import at, code_change, conclude, gain, ms, place_of, where
from perfloop.diagnose.reading import Reading, StepView
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, RuleResult
from perfloop.model.signals import ResponseObservation

ID = "no-pagination"
NEEDS = ("responses", "solo")
THRESHOLDS = {"items_min": 500.0, "likely_items": 1000.0, "item_min_bytes": 20.0, "request_min_s": 0.01}

PAGE_ITEMS = 100.0  # what a page would have, for the estimate of what is won


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge one answer of every endpoint."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    found: list[Finding] = []
    for answer in evidence.responses:
        step = reading.steps.get(answer.step)
        items = answer.items or 0
        if step is None or not step.solo_s or items < limit["items_min"] or step.solo_s < limit["request_min_s"]:
            continue
        if answer.body_bytes >= limit["item_min_bytes"] * items or answer.content_encoding:
            found.append(_finding(reading, step, answer, items, limit))
    found.sort(key=lambda finding: -finding.win_back_per_s)
    most = max((answer.items or 0 for answer in evidence.responses), default=0)
    return conclude(ID, evidence, found, f"the longest list in an answer has {most:,} items")


def _finding(reading: Reading, step: StepView, answer: ResponseObservation, items: int, limit: Mapping[str, float]) -> Finding:
    place = step.handler
    saved = (step.solo_s or 0.0) * (1 - PAGE_ITEMS / items)
    advice = "answer in pages: a limit with an upper bound, and a cursor"
    won = saved * step.rate_per_s
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY if items >= limit["likely_items"] else Confidence.POSSIBLE,
        title=f"{step.name} lists {items:,} items at once",
        place=place_of(place),
        steps=(step.name,),
        win_back_s=gain(won, step.rate_per_s, None, f"alone, in proportion to pages of {PAGE_ITEMS:.0f} items"),
        win_back_per_s=won,
        evidence=(
            f"one answer of {step.name} holds a list of {items:,} items in {answer.body_bytes:,} bytes",
            f"the endpoint takes {ms(step.solo_s or 0.0)} alone ({step.requests} requests)",
            *([f"handled at {at(place, reading.source_root)} in {place.function}()"] if place else []),
        ),
        hypothesis="the time goes with the number of items, and nobody looks at so many",
        disproof="the list cannot grow, because something other than the data bounds it",
        fix=where(place, reading.source_root) + advice,
        prevention="an upper bound on every list, tested with more data than you have today",
        proposals=code_change("answer in pages", place, advice),
    )
