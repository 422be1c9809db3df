"""A sample of ``make bench-safety``: deaths, torn writes, faults of disk and clock at system calls of a change, on a file and on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench.safety import spread
from bench.safety_kill.campaign import FAULTS, Campaign, campaign

KINDS = ("config-file", "redis-setting")


@pytest.fixture(scope="module", params=KINDS)
def lab(request: pytest.FixtureRequest) -> Iterator[Campaign]:
    with campaign(request.param) as found:
        yield found


@pytest.fixture(scope="module")
def calls(lab: Campaign) -> int:
    return lab.calls()


@pytest.mark.parametrize(("what", "count"), [("kill", 16), ("torn", 6), ("both", 4), *((name, 1) for name in FAULTS), ("clock ahead", 2), ("clock back", 2)])
def test_everything_is_as_before(lab: Campaign, calls: int, what: str, count: int) -> None:
    for at in spread(calls - 30, count):
        row = lab.trial(what, at)
        assert row["ok"], row


def test_a_recovery_that_dies_is_recovered(lab: Campaign) -> None:
    for at in spread(lab.undo_calls(), 6):
        row = lab.trial("recovery", at)
        assert row["ok"], row


def test_a_foreign_edit_is_left_alone_and_told(lab: Campaign) -> None:
    row = lab.trial("foreign", 0)
    assert row["ok"], row


def test_with_the_watchdog_as_it_is_started_for_users(lab: Campaign, calls: int) -> None:
    row = lab.trial("spawned", calls // 2)
    assert row["ok"], row
    assert row["killed"]
