"""Which of the candidates to have: costs by the planner twin, choice by the solver under a storage budget, and the choice planned again until it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perfloop.change.index_candidates import Candidate
from perfloop.errors import CannotMeasure
from perfloop.stats.selection import Choice, Problem, choose
from perfloop.twin.build import Twin
from perfloop.twin.hidden import Hidden
from perfloop.twin.whatif import nodes

PAGE_BYTES = 8192
ROUNDS_MAX = 6
GAIN_MIN = 0.005  # of a query's cost, by one index alone
WORSE_MAX = 0.05
#: planner units for one entry written: going down a b-tree of three levels, and the entry
WRITE_UNITS = 0.4


@dataclass
class Costs:
    """What the twin said: costs of each query (by its number) under sets of candidates (by their numbers)."""

    twin: Twin
    queries: Sequence[str]
    tables: Sequence[frozenset[str]]  # of each query
    made: Mapping[int, Hidden]
    of_table: Mapping[int, str]
    asked: int = 0
    base: dict[int, float] = field(default_factory=dict)
    options: dict[int, dict[frozenset[int], float]] = field(default_factory=dict)

    def plan(self, number: int, chosen: frozenset[int]) -> tuple[float, frozenset[int]]:
        """(cost, candidates in the plan) of a query with these shown; the indexes of other tables change nothing."""
        shown = frozenset(item for item in chosen if self.of_table[item] in self.tables[number])
        self.twin.show([self.made[item] for item in shown])
        self.asked += 1
        plan = self.twin.explain(self.queries[number])
        used = _used(plan, {self.made[item].name: item for item in shown})
        self.options.setdefault(number, {})[used] = min(plan["Total Cost"], self.options.get(number, {}).get(used, plan["Total Cost"]))
        return float(plan["Total Cost"]), used


def _used(plan: dict[str, Any], names: Mapping[str, int]) -> frozenset[int]:
    return frozenset(names[node["Index Name"]] for node in nodes(plan) if node.get("Index Name") in names)


def explore(twin: Twin, queries: Sequence[str], tables: Sequence[frozenset[str]], found: Sequence[Candidate]) -> Costs:
    """Each candidate alone on the queries of its table, then all that helped together, then without each of those that were used."""
    made = dict(enumerate(twin.add([candidate.ddl(concurrently=False) for candidate in found])))
    costs = Costs(twin, queries, tables, made, {number: candidate.table for number, candidate in enumerate(found)})
    for number in range(len(queries)):
        costs.base[number], _ = costs.plan(number, frozenset())
    helpful: dict[int, set[int]] = {number: set() for number in range(len(queries))}
    for item in made:  # item by item: showing another one is dearer than planning another query
        for number in range(len(queries)):
            if costs.of_table[item] in tables[number]:
                cost, used = costs.plan(number, frozenset({item}))
                if used and cost < costs.base[number] * (1 - GAIN_MIN):
                    helpful[number].add(item)
    for number, items in helpful.items():
        _, used = costs.plan(number, frozenset(items))
        for item in used if len(items) > 1 else ():
            costs.plan(number, frozenset(items) - {item})
    return costs


def decide(costs: Costs, weights: Sequence[float], writes: Mapping[str, float], budget_bytes: float) -> tuple[Choice, dict[int, float]]:
    """The choice, and the cost of each query with it. What the solver combines is planned again, and the answer becomes an option, until both agree."""
    sizes = {item: float(index.pages * PAGE_BYTES) for item, index in costs.made.items()}
    prices = {item: writes.get(costs.of_table[item], 0.0) * WRITE_UNITS for item in costs.made}
    banned: set[int] = set()
    choice = Choice(frozenset(), 0.0, None, False, "")
    for _ in range(ROUNDS_MAX):
        options = {str(number): {items: cost * weights[number] for items, cost in costs.options[number].items() if not items & banned} for number in costs.base}
        problem = Problem({str(number): cost * weights[number] for number, cost in costs.base.items()}, options, sizes, prices, budget_bytes)
        choice = choose(problem, time_limit_s=3.0)
        real = {number: costs.plan(number, choice.items) for number in costs.base}
        worse = {item for number, (cost, used) in real.items() if cost > costs.base[number] * (1 + WORSE_MAX) for item in used}
        banned |= worse
        planned = sum(cost * weights[number] for number, (cost, _) in real.items())
        needed = frozenset(item for _, used in real.values() for item in used)
        if not worse and needed == choice.items and planned <= (choice.total - sum(prices[item] for item in choice.items)) * (1 + 1e-6):
            return choice, {number: cost for number, (cost, _) in real.items()}
    items = frozenset(choice.items) - banned
    final = {number: costs.plan(number, items)[0] for number in costs.base}
    if any(cost > costs.base[number] * (1 + WORSE_MAX) for number, cost in final.items()):
        raise CannotMeasure("no choice of indexes keeps every query", why="in each that was tried a query got more than 5 % worse", fix="give fewer queries")
    return Choice(items, choice.total, choice.bound, False, choice.solver), final
