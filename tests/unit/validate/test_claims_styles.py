"""Figures as other people write them: in pull requests, in German, in words, under headings, in tables with units in their headers."""

from __future__ import annotations

import pytest
from tests.unit.validate.test_claims import FACTS, states

from perfloop.validate.claims import check_text
from perfloop.validate.prose import is_german

PULL_REQUEST = """## Summary

Adds an index and batches the supplier calls.

## Performance

Measured with perfloop, 5 windows of 5 s, 20 pairs of rounds, timeout 10 s.

| Endpoint | Metric | Before | After | Change |
|---|---|---|---|---|
| `GET /orders` | p95 | 120 ms | 39.8 ms | −67% |
| all requests | p95 | 2.1 s | 672 ms | -68 % |

- Throughput: 1190 → 4104 RPS (3.4x)
- the median response time is down from 900ms to 310ms
- CPU per request fell by 40 %

## Testing

All 214 tests pass in 38 s. See `src/app/orders.py` and /etc/nginx/nginx.conf.
"""


def test_a_pull_request_with_true_figures_passes() -> None:
    assert set(states(PULL_REQUEST)) == {"supported"}, [claim for claim in check_text(PULL_REQUEST, FACTS) if claim.state != "supported"]
    assert len(states(PULL_REQUEST)) == 12


@pytest.mark.parametrize(
    ("old", "new"),
    [("39.8 ms", "29.8 ms"), ("−67%", "−76%"), ("672 ms", "310 ms"), ("4104", "9104"), ("3.4x", "4.3x"), ("900ms to", "700ms to"), ("by 40 %", "by 60 %"), ("| `GET /orders` | p95", "| `GET /orders` | p99")],
)  # fmt: skip
def test_one_changed_figure_in_it_is_flagged(old: str, new: str) -> None:
    assert old in PULL_REQUEST
    assert set(states(PULL_REQUEST.replace(old, new))) > {"supported"}


@pytest.mark.parametrize(
    "text",
    [
        "Die p95-Latenz sank von 2,1 s auf 0,672 s.",
        "Der Durchsatz stieg von 1.190 auf 4.104 Anfragen pro Sekunde, und der Median ist jetzt 310 ms (vorher 900 ms).",
        "GET /orders: das p95 ist um zwei Drittel gesunken und liegt jetzt bei 39,8 ms.",
        "Die CPU-Zeit pro Anfrage ist um 40 Prozent niedriger.",
        "The p95 of GET /orders is down to a third of what it was.",
        "The p95 fell by about two thirds.",
        "GET /orders is three times as fast at p95.",
        "### GET /orders\n\n- p95: 120 ms -> 39.8 ms",
        "Results for GET /orders:\n\n```\np95 before 120ms after 39.8ms\n```",
        "| | p95 (ms) | p50 (ms) |\n|---|---|---|\n| before | 2100 | 900 |\n| after | 672 | 310 |",
        "| | requests/s |\n|---|---|\n| before | 1190 |\n| after | 4104 |",
        "p95 was 2.1 s on main; with this change it is 672 ms.",
        "p95 for /orders 39.8ms (was 120ms).",
        "The orders endpoint now has a p95 of 39.8 ms.",
        "/items/42 got 8 % slower at p95.",
        "p95 dropped 65-70%.",
        "p99 and memory were not looked at.",
        "We called it 3 times and retried twice.",
    ],
)
def test_true_in_another_style(text: str) -> None:
    assert set(states(text)) <= {"supported"}, check_text(text, FACTS)


@pytest.mark.parametrize(
    "text",
    [
        "Die p95-Latenz sank von 2,1 s auf 0,41 s.",
        "Die Latenz wurde halbiert.",
        "Der Durchsatz wurde verdoppelt.",
        "GET /orders is twice as fast at p95.",
        "The p95 of GET /orders was halved.",
        "Throughput doubled.",
        "### GET /orders\n\n- p95: 2.1 s -> 672 ms",
        "```\np95 before 2100ms after 250ms\n```",
        "| | p95 (ms) |\n|---|---|\n| after | 267 |",
        "The checkout endpoint now has a p95 of 39.8 ms.",
        "We cut the queries per request from 101 to 2.",
        "This saves $1,200 a month.",
        "RSS went from 512 MB to 300 MB.",
        "p95 dropped 80–90 %.",
        "The p99 latency is 310 ms.",
        "RPS: 1190 → 9000",
        "Requests are now 10-fold faster.",
        "The p95 improved by an order of magnitude.",
    ],
)
def test_false_in_another_style(text: str) -> None:
    assert set(states(text)) & {"contradicted", "without evidence"}, check_text(text, FACTS)


def test_commas_are_decimal_in_german_and_between_few_digits_only() -> None:
    assert is_german("Die Latenz sank auf 39,8 ms.")
    assert not is_german("We die on this hill: p95 is 39.8 ms.")
    assert states("Throughput is now 4,104 requests/s.") == ["supported"]
    assert states("p95 is now 0,672 s.") == ["supported"]
