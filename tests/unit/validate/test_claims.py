"""Figures in texts: what was measured is supported, everything else is flagged."""

from __future__ import annotations

import pytest

from perfloop.model.result import RunResult
from perfloop.validate.claims import check_text
from perfloop.validate.facts import Fact, facts_of

RUN = "20260101-000000-improve-abcd"


def fact(kind, metric, role, value, subject="all requests"):
    return Fact(kind, metric, subject, role, value, RUN)


FACTS = [
    fact("time", "p95", "before", 2.1),
    fact("time", "p95", "after", 0.672),
    fact("time", "p95", "change", 0.32),
    fact("time", "p50", "before", 0.9),
    fact("time", "p50", "after", 0.31),
    fact("time", "p50", "change", 0.344),
    fact("time", "mean", "before", 1.05),
    fact("rate", "throughput", "before", 1190),
    fact("rate", "throughput", "after", 4104),
    fact("rate", "throughput", "change", 3.449),
    fact("time", "cpu", "change", 0.6),
    fact("share", "errors", "after", 0.004),
    fact("time", "p95", "before", 0.12, "GET /orders"),
    fact("time", "p95", "after", 0.0398, "GET /orders"),
    fact("time", "p95", "change", 0.3317, "GET /orders"),
    fact("time", "p95", "change", 1.08, "GET /items/{id}"),
]


def states(text: str, facts=FACTS) -> list[str]:
    return [claim.state for claim in check_text(text, facts)]


@pytest.mark.parametrize(
    "text",
    [
        "Improved response time by 68% (2.1s to 0.67s), increased throughput by 245% (1.2k to 4.1k RPS), and reduced resource usage by 40%.",
        "p95 fell from 2.1 s to 672 ms.",
        "The median is now 310 ms, and was 900 ms before.",
        "p95 latency dropped 68 %.",
        "The p95 is 3.1x faster.",
        "p95 of GET /orders: 120 ms → 39.8 ms",
        "GET /orders is now at a p95 of 39.8 ms (38.1 to 41.2 ms).",
        "/items/{id} got 8 % slower at p95.",
        "Throughput went from 1,190 to 4,104 requests/s, 3.4 times as much.",
        "The error rate is 0.4 % now.",
        "p95 is now below 700 ms.",
        "p95 was reduced by more than 60 %.",
        "p95 × 0.32",
        "CPU per request fell by 40 percent.",
    ],
)
def test_what_was_measured_is_supported(text):
    found = states(text)
    assert found
    assert set(found) == {"supported"}, check_text(text, FACTS)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("Improved response time by 78%.", "contradicted"),
        ("p95 fell from 2.1 s to 310 ms.", "contradicted"),  # that is the median
        ("p95 latency rose by 68 %.", "contradicted"),  # the other way
        ("The p95 is 5x faster.", "contradicted"),
        ("GET /orders: the p95 is 672 ms now.", "contradicted"),  # that is all requests
        ("The p99 is 310 ms.", "without evidence"),
        ("Memory fell by 68 %.", "without evidence"),
        ("GET /carts has a p95 of 39.8 ms.", "without evidence"),
        ("Costs fell by 35%.", "without evidence"),
        ("Throughput rose by 24.5 %.", "contradicted"),
        ("Throughput fell by 245 %.", "contradicted"),
        ("p95 is now below 600 ms.", "contradicted"),
        ("The error rate is 0.1 % now.", "contradicted"),
    ],
)
def test_what_was_not_measured_is_flagged(text, state):
    assert state in states(text)


@pytest.mark.parametrize(
    "text", ["The SLO is 200 ms.", "5 windows of 5 s, timeout 10 s, 95 % confidence.", "We ran it for 30 s.", "Version 2.1 of 3 services.", ""]
)
def test_promises_and_settings_are_no_claims(text):
    assert states(text) == []


def test_tables_are_read_with_their_header_and_row():
    table = "| endpoint | p95 before | p95 after |\n|---|---|---|\n| GET /orders | 120 ms | 39.8 ms |\n| all requests | 2.1 s | 900 ms |\n"
    assert states(table) == ["supported", "supported", "supported", "contradicted"]


def test_a_contradicted_figure_comes_with_the_measured_value():
    (claim,) = check_text("p95 improved by 90%", FACTS)
    assert claim.truth
    assert claim.truth.value == 0.32
    assert "68.0%" in claim.truth.text


def test_perfloops_own_report_passes_and_a_changed_digit_in_it_does_not(sample: RunResult):
    from perfloop.report.formats import markdown

    report, facts = markdown.render(sample), facts_of(sample)
    assert all(claim.state == "supported" for claim in check_text(report, facts, report.splitlines()))
    assert all(claim.state == "supported" for claim in check_text(sample.delivery_notice, facts))
    row = next(line for line in report.splitlines() if line.startswith("| all requests"))
    forged = report.replace(row, row.replace("333 ms", "833 ms"))
    assert "contradicted" in [claim.state for claim in check_text(forged, facts, report.splitlines())]
