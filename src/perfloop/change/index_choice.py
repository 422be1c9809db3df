"""Which of the candidates to have: costs by the planner twin, choice by the solver under a storage budget, and the choice planned again until it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perfloop.change.index_candidates import WORD, Candidate
from perfloop.errors import CannotMeasure, UsageError
from perfloop.stats.selection import Choice, Problem, choose
from perfloop.twin.build import Twin
from perfloop.twin.hidden import Hidden
from perfloop.twin.whatif import nodes

PAGE_BYTES = 8192
ROUNDS_MAX = 6
GAIN_MIN = 0.005  # of a query's cost, by one index alone
WORSE_MAX = 0.05
SIZE_MARGIN = 1.02
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
    _known: dict[tuple[int, frozenset[int]], tuple[float, frozenset[int]]] = field(default_factory=dict)

    def plan(self, number: int, chosen: frozenset[int]) -> tuple[float, frozenset[int]]:
        """(cost, candidates in the plan) of a query with these shown; the indexes of other tables change nothing."""
        return self.plans([number], frozenset(item for item in chosen if self.of_table[item] in self.tables[number]))[0]

    def plans(self, numbers: Sequence[int], shown: frozenset[int]) -> list[tuple[float, frozenset[int]]]:
        """The same for several queries at once, with just these shown."""
        known = [self._known.get((number, frozenset(item for item in shown if self.of_table[item] in self.tables[number]))) for number in numbers]
        todo = [number for number, answer in zip(numbers, known, strict=True) if answer is None]
        if todo:
            self.twin.show([self.made[item] for item in shown])
            self.asked += len(todo)
        names = {self.made[item].name: item for item in shown}
        answers = iter(self.twin.explain_all([self.queries[number] for number in todo]))
        return [answer or self._note(number, shown, next(answers), names) for number, answer in zip(numbers, known, strict=True)]

    def _note(self, number: int, shown: frozenset[int], plan: dict[str, Any], names: Mapping[str, int]) -> tuple[float, frozenset[int]]:
        cost, used = float(plan["Total Cost"]), _used(plan, names)
        options = self.options.setdefault(number, {})
        options[used] = min(cost, options.get(used, cost))
        answer = (cost, used)
        self._known[number, frozenset(item for item in shown if self.of_table[item] in self.tables[number])] = answer
        return answer


def _used(plan: dict[str, Any], names: Mapping[str, int]) -> frozenset[int]:
    return frozenset(names[node["Index Name"]] for node in nodes(plan) if node.get("Index Name") in names)


def made_in(twin: Twin, found: Sequence[Candidate]) -> tuple[list[Candidate], list[Hidden]]:
    """Those that the server takes: an expression that is not immutable, or a type without that method, is left out."""
    plain = [candidate for candidate in found if candidate.plain]
    kept, made = list(plain), twin.add([candidate.ddl(concurrently=False) for candidate in plain])
    for candidate in found:
        if not candidate.plain:
            try:
                made += twin.add([candidate.ddl(concurrently=False)])
            except UsageError:
                continue
            kept.append(candidate)
    return kept, made


def explore(twin: Twin, queries: Sequence[str], tables: Sequence[frozenset[str]], found: Sequence[Candidate], there: Sequence[Hidden] = ()) -> Costs:
    """Each candidate alone on the queries that it may serve, then all that helped together, then without each of those that were used. ``there``: they are made already."""
    made = dict(enumerate(there or twin.add([candidate.ddl(concurrently=False) for candidate in found])))
    costs = Costs(twin, queries, tables, made, {number: candidate.table for number, candidate in enumerate(found)})
    everybody = range(len(queries))
    for number, (cost, _) in enumerate(costs.plans(everybody, frozenset())):
        costs.base[number] = cost
    helpful: dict[int, set[int]] = {number: set() for number in everybody}
    words = [{word.lower() for word in WORD.findall(text)} for text in queries]
    for item, candidate in enumerate(found):
        asked = [number for number in everybody if costs.of_table[item] in tables[number] and candidate.may_serve(words[number])]
        for number, (cost, used) in zip(asked, costs.plans(asked, frozenset({item})), strict=True):
            if used and cost < costs.base[number] * (1 - GAIN_MIN):
                helpful[number].add(item)
    for number, items in helpful.items():
        _, used = costs.plan(number, frozenset(items))
        for item in used if len(items) > 1 else ():
            costs.plan(number, frozenset(items) - {item})
    return costs


def decide(costs: Costs, weights: Sequence[float], writes: Mapping[str, float], budget_bytes: float) -> tuple[Choice, dict[int, float]]:
    """The choice, and the cost of each query with it. What the solver combines is planned again, and the answer becomes an option, until both agree."""
    sizes = {item: max(index.high, index.pages * SIZE_MARGIN) * PAGE_BYTES for item, index in costs.made.items()}  # the room must do when they are built
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


def worthwhile(costs: Costs, weights: Sequence[float], items: frozenset[int], gain_min: float) -> tuple[frozenset[int], dict[int, float]]:
    """The choice without those whose gain, of the whole workload's cost, is below ``gain_min``: the least first, and planned again each time."""
    whole = sum(cost * weights[number] for number, cost in costs.base.items())
    while True:
        final = {number: costs.plan(number, items)[0] for number in costs.base}
        gains = {item: sum((costs.plan(number, items - {item})[0] - cost) * weights[number] for number, cost in final.items()) for item in items}
        least = min(gains, key=lambda item: (gains[item], item), default=None)
        if least is None or gains[least] >= gain_min * whole:
            return items, final
        items -= {least}
