from __future__ import annotations

from pathlib import Path

import pytest

from perfloop import api
from perfloop.context.limits import policy
from perfloop.errors import StorageError, UsageError
from perfloop.model.change import Change, Safety
from perfloop.model.config import Config
from perfloop.model.requests import ApprovalsRequest
from perfloop.model.target import Environment
from perfloop.store.approvals import Approvals
from perfloop.store.audit import AuditLog


def test_an_approval_is_of_a_kind_on_a_target_and_revocable(tmp_path: Path) -> None:
    kept = Approvals(tmp_path)
    given = kept.give("http://Shop/", "postgres-index", "production", "ann", "CHG-1")
    assert kept.give("http://shop", "postgres-index", "production", "bob").approved_by == "bob"  # replaces it
    assert [one.approved_by for one in kept.all()] == ["bob"]
    assert set(Approvals(tmp_path).kinds("http://shop/", "production")) == {"postgres-index"}
    assert kept.kinds("http://shop", "staging") == {}
    assert kept.kinds("http://other", "production") == {}
    with pytest.raises(UsageError):
        kept.revoke(given.id)
    kept.revoke(kept.all()[0].id)
    assert kept.all() == ()


def test_damaged_approvals_approve_nothing(tmp_path: Path) -> None:
    (tmp_path / "approvals.json").write_text("[{]")
    with pytest.raises(StorageError):
        Approvals(tmp_path).kinds("http://shop", "production")


def test_in_production_the_kind_that_was_approved_may_be_applied_and_no_other() -> None:
    config = Config.model_validate({"changes": {"allow": "safe", "ticket": "CHG-1"}})
    index = Change(id="c", kind="postgres-index", title="t", safety=Safety.ASK)
    assert "approval" in policy(config, Environment.PRODUCTION).refusal(index)
    rules = policy(config, Environment.PRODUCTION, {"postgres-index"})
    assert rules.refusal(index) == ""
    assert "approval" in rules.refusal(index.with_(kind="sysctl", safety=Safety.SAFE))
    assert "never" in rules.refusal(index.with_(safety=Safety.SHOW))
    without_ticket = Config.model_validate({"changes": {"allow": "safe"}})
    assert "ticket" in policy(without_ticket, Environment.PRODUCTION, {"postgres-index"}).refusal(index)


def test_the_verb_gives_lists_and_revokes_and_is_audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFLOOP_STATE_DIR", str(tmp_path / "state"))
    with pytest.raises(UsageError):
        api.approvals(ApprovalsRequest(kind="sysctl", url="http://shop"), tmp_path)  # nobody approves
    with pytest.raises(UsageError):
        api.approvals(ApprovalsRequest(kind="none", url="http://shop", by="ann"), tmp_path)
    given = api.approvals(ApprovalsRequest(kind="sysctl", url="shop:80", by="ann", environment=Environment.SANDBOX), tmp_path)
    assert [one.kind for one in given.approvals] == ["sysctl"]
    assert api.approvals(ApprovalsRequest(revoke=given.approvals[0].id), tmp_path).approvals == ()
    audit = AuditLog()
    assert [event.operation for event in audit.entries() if event.outcome == "success"] == ["approval_given", "approval_revoked"]
    assert audit.verify() == ()
