"""Rules on calls that were counted inside the service or in traces: a service without sockets to its database, and lines that no stack shows."""

from __future__ import annotations

import pytest
from diagnose_builder import ROOT, evidence, solo

from perfloop.diagnose.counted import counted
from perfloop.diagnose.runner import builtin_rules
from perfloop.model.calls import CallCount, CallKind, CallPlace, CallsObservation, RequestCalls
from perfloop.model.finding import Confidence, Outcome, RuleResult

LOOP = "def books(n):\n    for i in range(n):\n        one(i)\n"
RULES = {
    "n-plus-one": ("database", "SELECT * FROM author WHERE id = ?"),
    "n-plus-one-http": ("http", "GET prices:80/{id}"),
    "chatty-cache": ("cache", "GET book:{id}"),
}


def called(kind: CallKind, text: str, per_request: int, seconds: float, requests: int = 50, source: str = "agent") -> CallsObservation:
    lines = ((f"{ROOT}/db.py", 40, "one"), (f"{ROOT}/app.py", 12, "books"))
    call = CallCount(
        kind=kind, text=text, calls=per_request * requests, requests=requests, most=per_request, seconds=seconds, places=(CallPlace(lines=lines, seen=9),)
    )
    return CallsObservation(window_s=5, source=source, pid=7, requests=(RequestCalls(name="GET /books", requests=requests, seconds=1, calls=(call,)),))


def judged(rule: str, *calls: CallsObservation, mean_s: float = 0.04, sockets: bool = False) -> RuleResult:
    alone = solo("GET /books", mean_s).with_(calls=calls, **({} if sockets else {"sockets": None}))
    seen = evidence({"GET /books": (50, mean_s)}, solos=[alone], source={"app.py:books": (10, LOOP), "db.py:one": (39, "def one(i):\n    return execute(i)\n")})
    return builtin_rules()[rule].diagnose(seen, {})


@pytest.mark.parametrize("rule", RULES)
def test_many_calls_from_a_loop_are_found_with_the_line_of_the_loop(rule):
    result = judged(rule, called(*RULES[rule], per_request=15, seconds=50 * 0.03))
    assert result.outcome is Outcome.FOUND
    finding = result.findings[0]
    assert (finding.confidence, finding.place.file, finding.place.line) == (Confidence.LIKELY, f"{ROOT}/app.py", 12)
    assert "15" in finding.title
    assert any("counted by the agent" in fact for fact in finding.evidence)


@pytest.mark.parametrize("rule", RULES)
def test_few_calls_or_cheap_ones_are_none(rule):
    assert judged(rule, called(*RULES[rule], per_request=2, seconds=50 * 0.03)).outcome is Outcome.CLEAR
    assert judged(rule, called(*RULES[rule], per_request=15, seconds=50 * 0.0005)).outcome is Outcome.CLEAR


@pytest.mark.parametrize("rule", ["n-plus-one-http", "chatty-cache"])
def test_neither_sockets_nor_counts_is_unknown_and_never_clear(rule):
    assert judged(rule).outcome is Outcome.UNKNOWN


def test_the_statement_is_told_by_what_was_counted():
    assert judged("n-plus-one", called(*RULES["n-plus-one"], per_request=15, seconds=1.5)).findings[0].place.query == RULES["n-plus-one"][1]


def test_workers_add_up_and_what_is_outside_of_requests_is_no_request_s():
    one, two = (called("database", "SELECT ?", 4, 1.0, requests=20) for _ in range(2))
    outside = CallsObservation(window_s=5, source="agent", requests=(RequestCalls(name="", requests=0, seconds=0, calls=one.requests[0].calls),))
    found = counted([one, two, outside], 40)["database"]
    assert (found.per_request, found.requests, found.seconds) == (4, 40, 2 / 40)
