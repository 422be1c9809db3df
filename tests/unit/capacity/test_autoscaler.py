"""The autoscaler against the cases that Kubernetes documents for its own: as data, in tests/cases/hpa."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perfloop.capacity.autoscaler import DOWN_DEFAULT, UP_DEFAULT, Memory, Pod, Policy, Rules, desired, desired_by_total, limited, stabilized, step

CASES = Path(__file__).parents[2] / "cases" / "hpa"


def cases(name: str) -> Any:
    found = json.loads((CASES / f"{name}.json").read_text())
    return pytest.mark.parametrize("case", found, ids=[case["name"] for case in found])


def rules(given: dict[str, Any] | None, default: Rules) -> Rules:
    if given is None:
        return default
    return Rules(tuple(Policy(*policy) for policy in given["policies"]), given["stabilization_s"])


@cases("pods")
def test_replicas_by_the_metrics_of_pods(case: dict[str, Any]) -> None:
    pods = [Pod(**pod) for pod in case["pods"]]
    assert (
        desired(case["current"], pods, case["target"], case.get("kind", "utilization"), case.get("cpu", True), initialization_s=120, readiness_s=10)
        == (case["expected"])
    )


@cases("totals")
def test_replicas_by_the_metric_of_something_else(case: dict[str, Any]) -> None:
    assert desired_by_total(case["current"], case["total"], case["target"], case["kind"], case["ready"]) == case["expected"]


@cases("stabilization")
def test_stabilisation(case: dict[str, Any]) -> None:
    memory = Memory(recommendations=[(at, count) for at, count in case["recommendations"]])
    assert stabilized(0.0, case["current"], case["wanted"], memory) == case["expected"]


@cases("limits")
def test_limits_of_the_rate_of_change(case: dict[str, Any]) -> None:
    memory = Memory(ups=[(at, change) for at, change in case["ups"]], downs=[(at, change) for at, change in case["downs"]])
    up, down = rules(case["up"], UP_DEFAULT), rules(case["down"], DOWN_DEFAULT)
    found = limited(0.0, case["current"], case["wanted"], case["minimum"], case["maximum"], memory, up, down)
    assert found == (case["expected"], case["condition"])


def test_a_disabled_direction_does_not_move() -> None:
    assert limited(0.0, 5, 9, 1, 20, Memory(), up=Rules((), select="Disabled"))[0] == 5


def test_the_smallest_change_is_chosen_where_it_is_asked_for() -> None:
    slow = Rules((Policy("Pods", 2, 60), Policy("Percent", 50, 60)), 300, "Min")
    assert limited(0.0, 5, 1, 1, 20, Memory(), down=slow)[0] == 3


def test_a_turn_without_a_metric_changes_nothing_and_bounds_hold_without_one() -> None:
    assert step(0.0, 4, None, 1, 10, Memory()) == 4
    assert step(0.0, 12, None, 1, 10, Memory()) == 10
    assert step(0.0, 0, 5, 1, 10, Memory()) == 0


def test_what_was_added_counts_against_the_next_turn() -> None:
    memory = Memory()
    assert step(0.0, 10, 100, 1, 200, memory) == 20
    assert step(10.0, 20, 100, 1, 200, memory) == 20  # ten were added ten seconds ago: the allowance of the period is used
    assert step(30.0, 20, 100, 1, 200, memory) == 40
