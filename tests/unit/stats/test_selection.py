"""The chosen set is the best one: against all sets tried one by one, with the solver and without."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from perfloop.stats import selection
from perfloop.stats.selection import Problem, choose


def problem(seed: int) -> Problem:
    rng = random.Random(seed)
    items = range(rng.randint(1, 9))
    sizes = {item: float(rng.randint(1, 10)) for item in items}
    prices = {item: rng.choice((0.0, 0.0, rng.uniform(0, 20))) for item in items}
    costs = {f"q{number}": rng.uniform(50, 100) for number in range(rng.randint(1, 5))}
    options = {
        query: {frozenset(rng.sample(list(items), rng.randint(1, min(3, len(items))))): rng.uniform(1, 110) for _ in range(rng.randint(0, 8))}
        for query in costs
    }
    return Problem(costs, options, sizes, prices, rng.uniform(0, 25))


def cost_of(given: Problem, chosen: frozenset[int]) -> float:
    """The definition, without the code under test."""
    queries = sum(min([base, *(cost for items, cost in given.options[query].items() if items <= chosen)]) for query, base in given.costs.items())
    return queries + sum(given.prices[item] for item in chosen)


def best_of(given: Problem) -> float:
    sets = (frozenset(chosen) for count in range(len(given.sizes) + 1) for chosen in combinations(given.sizes, count))
    return min(cost_of(given, chosen) for chosen in sets if sum(given.sizes[item] for item in chosen) <= given.budget)


@pytest.mark.parametrize("seed", range(60))
def test_no_other_set_within_the_budget_is_better(seed: int) -> None:
    given = problem(seed)
    choice = choose(given)
    assert sum(given.sizes[item] for item in choice.items) <= given.budget
    assert choice.total == pytest.approx(cost_of(given, choice.items))
    assert choice.total == pytest.approx(best_of(given), rel=1e-5)
    assert choice.optimal
    assert choice.bound is not None
    assert choice.bound <= choice.total * (1 + 1e-9)


def test_without_the_solver_it_is_near_and_says_that_nothing_is_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "find_spec", lambda name: None)
    gaps = []
    for seed in range(60):
        given = problem(seed)
        choice = choose(given)
        assert not choice.optimal
        assert choice.bound is None
        assert sum(given.sizes[item] for item in choice.items) <= given.budget
        gaps.append(choice.total / best_of(given) - 1)
    assert min(gaps) > -1e-9
    assert sum(gap < 1e-9 for gap in gaps) >= 50


def test_a_start_is_not_lost_and_one_over_the_budget_not_taken() -> None:
    given = Problem({"q": 10.0}, {"q": {frozenset({1, 2}): 1.0}}, {1: 5.0, 2: 5.0}, {}, 10.0)
    assert choose(given, start=(1, 2)).items == {1, 2}
    small = Problem(given.costs, given.options, given.sizes, {}, 9.0)
    assert choose(small, start=(1, 2)).items == frozenset()


def test_a_price_can_forbid_what_would_help() -> None:
    assert choose(Problem({"q": 10.0}, {"q": {frozenset({1}): 1.0}}, {1: 5.0}, {1: 9.5}, 10.0)).items == frozenset()
