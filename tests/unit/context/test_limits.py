"""What may be changed where."""

from __future__ import annotations

from typing import Any

import pytest

from perfloop.context.limits import policy
from perfloop.model.change import Change, Safety
from perfloop.model.config import Config
from perfloop.model.target import Environment


def config(allow: str = "safe", restart_command: str = "", **changes: Any) -> Config:
    return Config.model_validate({"changes": {"allow": allow, **changes}, "target": {"restart_command": restart_command}})


def change(safety: Safety = Safety.SAFE, restarts: bool = False) -> Change:
    return Change(id="c", kind="k", title="t", safety=safety, restarts=restarts)


@pytest.mark.parametrize("environment", list(Environment))
def test_nothing_is_allowed_by_default(environment: Environment) -> None:
    rules = policy(Config(), environment)
    assert not rules.changes_allowed
    assert "changes.allow" in rules.refusal(change())


def test_a_sandbox_skips_the_ticket_and_says_so() -> None:
    rules = policy(config(), Environment.SANDBOX)
    assert rules.refusal(change()) == ""
    assert not rules.needs_ticket
    assert any("ticket" in note and "skipped" in note for note in rules.notes)


@pytest.mark.parametrize(
    ("given", "missing"),
    [({}, "changes.ticket and changes.approved_by"), ({"ticket": "CHG-1"}, "changes.approved_by"), ({"approved_by": "x"}, "changes.ticket")],
)
def test_production_needs_both(given: dict[str, str], missing: str) -> None:
    rules = policy(config(**given), Environment.PRODUCTION)
    assert rules.needs_ticket
    assert rules.refusal(change()).endswith(f"set {missing}")
    assert policy(config(ticket="CHG-1", approved_by="x"), Environment.PRODUCTION).refusal(change()) == ""


def test_what_asks_needs_a_yes() -> None:
    assert "asks first" in policy(config(), Environment.STAGING).refusal(change(Safety.ASK))
    assert policy(config("ask"), Environment.STAGING).refusal(change(Safety.ASK)) == ""
    assert "never" in policy(config("ask"), Environment.SANDBOX).refusal(change(Safety.SHOW))


def test_a_restart_is_safe_in_a_sandbox_and_asks_elsewhere() -> None:
    restart = change(restarts=True)
    assert policy(config(restart_command="x"), Environment.SANDBOX).refusal(restart) == ""
    assert "restart" in policy(config(restart_command="x"), Environment.STAGING).refusal(restart)
    assert policy(config(restart_command="x", restart=True), Environment.STAGING).refusal(restart) == ""
    assert policy(config("ask", restart_command="x"), Environment.STAGING).refusal(restart) == ""


def test_an_untold_environment_is_staging() -> None:
    assert policy(Config()).environment == Environment.STAGING
