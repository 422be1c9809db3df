"""The runner: missing evidence, broken rules, configuration, and which finding comes first."""

from __future__ import annotations

from types import ModuleType

import pytest
from diagnose_builder import FASTAPI, HTTP, POOL_WAIT, QUERY, evidence, solo

from perfloop.diagnose.runner import builtin_rules, diagnose
from perfloop.errors import UsageError
from perfloop.model.config import RuleConfig
from perfloop.model.evidence import Evidence, Unavailable
from perfloop.model.finding import Outcome
from perfloop.model.target import Peer, PeerKind


def outcome(found: Evidence, rule: str) -> tuple[Outcome, str]:
    result = next(result for result in diagnose(found, {}).results if result.rule == rule)
    return result.outcome, result.reason + " " + result.fix


def test_nothing_observed_is_unknown_and_says_what_to_do() -> None:
    bare = evidence({"GET /": (50, 0.01)}, host=None, processes=(), stacks=()).with_(
        unavailable=(Unavailable(probe="stacks", reason="ptrace is not permitted", fix="run as root"),)
    )
    for rule in ("cpu-hot-spot", "memory-leak", "retransmits", "missing-index"):
        assert outcome(bare, rule)[0] is Outcome.UNKNOWN
    assert outcome(bare.with_(solo=(solo("GET /", 0.01),)), "cpu-hot-spot")[1] == "stacks of the service are missing: ptrace is not permitted run as root"


def test_service_without_postgresql() -> None:
    found = evidence({"GET /": (50, 0.01)})
    found = found.with_(target=found.target.with_(peers=(Peer(kind=PeerKind.REDIS, host="h", port=1),)))
    assert outcome(found, "missing-index")[0] is Outcome.NOT_APPLICABLE


def test_broken_rule_does_not_hide_the_others() -> None:
    broken = ModuleType("broken")
    broken.__dict__.update(ID="broken", NEEDS=(), diagnose=lambda *_: 1 / 0)
    result = diagnose(evidence({"GET /": (50, 0.01)}), {}, {"broken": broken, **builtin_rules()})
    assert result.results[0].outcome is Outcome.UNKNOWN
    assert "ZeroDivisionError" in result.results[0].reason
    assert len(result.results) == len(builtin_rules()) + 1


def test_configuration() -> None:
    found = evidence({"GET /": (50, 0.01)})
    with pytest.raises(UsageError, match="no rule 'n-plus-on'") as caught:
        diagnose(found, {"n-plus-on": RuleConfig()})
    assert "n-plus-one" in caught.value.fix
    with pytest.raises(UsageError, match="share_mn"):
        diagnose(found, {"n-plus-one": RuleConfig(thresholds={"share_mn": 1})})
    off = diagnose(found, {"n-plus-one": RuleConfig(enabled=False)})
    assert next(item for item in off.results if item.rule == "n-plus-one").outcome is Outcome.NOT_APPLICABLE


def test_threshold_can_be_overridden() -> None:
    rows = [(f"{FASTAPI} | page views.py:11 | {HTTP}", 600, 0)]
    found = evidence({"GET /page": (50, 0.13)}, rows, [solo("GET /page", 0.12, rows, peers={"http": (50, 5.5)})])
    assert diagnose(found, {}).findings[0].rule == "slow-downstream"
    assert diagnose(found, {"slow-downstream": RuleConfig(thresholds={"request_min_s": 0.2})}).findings == ()


def test_queue_before_the_call_it_is_held_across() -> None:
    """Few connections held across a slow call: the pool is what bounds the service, though each call costs more."""
    call = f"{FASTAPI} | page views.py:11 | {HTTP}"
    query = f"{FASTAPI} | page views.py:10 | {QUERY}"
    wait = f"{FASTAPI} | page views.py:10 | {POOL_WAIT}"
    found = evidence(
        {"GET /page": (50, 0.2)},
        [(call, 500, 0), (query, 20, 5), (wait, 400, 0)],
        [solo("GET /page", 0.11, [(call, 500, 0), (query, 25, 5)], peers={"http": (50, 5.0)})],
    )
    first, second = diagnose(found, {}).findings
    assert (first.rule, second.rule) == ("pool-exhausted", "slow-downstream")
    assert first.place.line == 11
    assert {proposal.kind for proposal in first.proposals} == {"app-setting", "code"}
    assert first.proposals[0].params == {"answers": "pool-exhausted", "direction": "increase"}
    assert any("ranked behind pool-exhausted" in fact for fact in second.evidence)
