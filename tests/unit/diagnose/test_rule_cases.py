"""Every rule against recorded and hand-made evidence: ``tests/cases/rules/<rule-id>/<story>.json`` with what is expected of it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from perfloop.diagnose.pages import SECTIONS, index, page, pages, sections
from perfloop.diagnose.runner import builtin_rules, diagnose
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Outcome

CASES = Path(__file__).parents[2] / "cases" / "rules"
STORIES = sorted(path for path in CASES.glob("*/*.json") if path.parent.name != "shared")
RULES = builtin_rules()


@cache
def load(path: Path) -> tuple[dict[str, object], Evidence]:
    data = json.loads(path.read_text())
    evidence = data["evidence"]
    if isinstance(evidence, str):
        evidence = json.loads((path.parent / evidence).resolve().read_text())
        evidence = evidence.get("evidence", evidence)  # that of another case
    return data["expect"], Evidence.model_validate(changed(evidence, data.get("change", {})))


def changed(evidence: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Recorded evidence with a few figures replaced: what cannot be made to happen in a test (a machine that swaps, a distant database)."""
    evidence = json.loads(json.dumps(evidence))
    for name, fields in change.items():
        if name == "solo_peer":  # one peer of every endpoint alone
            for solo in evidence["solo"]:
                trips = fields["trips"] * solo["requests"]
                waited = fields["waited_ms"] * solo["requests"] / 1000
                peer = {
                    "kind": "postgresql",
                    "port": 5432,
                    "connections": 1,
                    "round_trips": trips,
                    "waiting_s": waited,
                    "host": fields["host"],
                    "rtt_ms": fields["rtt_ms"],
                }
                solo["sockets"]["peers"] = [peer]
        elif name == "solo_mean_s":
            for solo in evidence["solo"]:
                solo["samples"]["latency"]["sum_s"] = fields * sum(solo["samples"]["latency"]["counts"])
        elif name == "sockets_peer":
            evidence["sockets"]["peers"] = [evidence["sockets"]["peers"][0] | fields]
        elif name == "processes":
            evidence["processes"] = [evidence["processes"][0] | fields[0]]
        elif isinstance(fields, dict):
            evidence[name] = {**(evidence[name] or {}), **fields}
        else:
            evidence[name] = fields
    return evidence


@pytest.mark.parametrize("path", STORIES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_case(path: Path) -> None:
    expect, evidence = load(path)
    diagnosis = diagnose(evidence, {})
    result = next(result for result in diagnosis.results if result.rule == path.parent.name)
    assert result.outcome.value == expect["outcome"], result.reason
    if "confidence" in expect:
        assert result.findings[0].confidence.value == expect["confidence"]
    if expect.get("first"):
        first = diagnosis.findings[0]
        assert first.rule == path.parent.name
        assert first.place.line == expect.get("line", first.place.line)
        assert str(expect.get("steps_first", "")) in ("", *first.steps[:1])
        assert first.evidence
        assert first.fix
        assert first.proposals


@pytest.mark.parametrize("rule", sorted(RULES))
def test_rule_is_complete(rule: str) -> None:
    """A docstring with all sections, thresholds that can be overridden, and a case that fires and one that does not."""
    module = RULES[rule]
    assert rule == module.ID
    written = sections(module)
    assert written[""].endswith(".")
    assert all(written.get(name) for name in SECTIONS)
    assert all(f"``{name}``" in module.__doc__ for name in module.THRESHOLDS if name not in UNSAID)
    assert set(module.NEEDS) <= set(Evidence.model_fields)
    outcomes = {load(path)[0]["outcome"] for path in STORIES if path.parent.name == rule}
    assert "found" in outcomes
    assert outcomes - {"found"}


#: guards against noise that a rule's page need not explain
UNSAID = {"alone_max", "cores_max", "third_min", "request_min_s", "share_min"}


def test_healthy_service_has_no_finding() -> None:
    evidence = Evidence.model_validate_json((CASES / "shared" / "healthy.json").read_text())
    diagnosis = diagnose(evidence, {})
    assert diagnosis.findings == ()
    engines = {"mysql-health", "redis-health", "memcached-health", "mongodb-health"}  # of servers that this service does not have
    assert {result.outcome for result in diagnosis.results if result.rule not in engines} == {Outcome.CLEAR}
    assert {result.outcome for result in diagnosis.results if result.rule in engines} == {Outcome.NOT_APPLICABLE}
    assert all(result.reason for result in diagnosis.results)


def test_pages_are_up_to_date() -> None:
    folder = Path(__file__).parents[3] / "docs" / "rules"
    assert {path.name: path.read_text() for path in folder.glob("*.md")} == pages()
    assert index(list(RULES.values())).count("](") == len(RULES)
    assert all(f"# {name}" in page(module) for name, module in RULES.items())
