"""Chooses items under a budget so that the sum of what they save is greatest: which indexes to have, when each query uses the best of what is there.

The problem is CoPhy's (Dash, Polyzotis, Ailamaki, VLDB 2011): each query takes at most one of its options, an option needs all its items, items take space and
cost something by themselves (writes). Solved by HiGHS where it is installed, from the greedy solution; without it, by greedy and exchange alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

TIME_LIMIT_S = 8.0
GAP = 1e-5  # relative to the total cost: a solution this close to the bound is called optimal
EXCHANGES_MAX = 2_000


@dataclass(frozen=True)
class Problem:
    """``costs``: of each query with no item; ``options``: of each query, the items needed → the cost then; ``sizes`` and ``prices`` of each item."""

    costs: Mapping[str, float]
    options: Mapping[str, Mapping[frozenset[int], float]]
    sizes: Mapping[int, float]
    prices: Mapping[int, float]
    budget: float

    def total(self, chosen: Iterable[int]) -> float:
        """The summed cost of all queries and of the chosen items themselves."""
        have = set(chosen)
        return sum(self.cost(query, have) for query in self.costs) + sum(self.prices.get(item, 0.0) for item in have)

    def cost(self, query: str, have: set[int]) -> float:
        """The cost of one query by the best option that these items allow; without one, what it costs with no item."""
        return min((cost for items, cost in self.options.get(query, {}).items() if items <= have), default=self.costs[query])


@dataclass(frozen=True)
class Choice:
    """Chosen items, their total, and a bound that no choice goes below; ``optimal`` where both meet within the gap."""

    items: frozenset[int]
    total: float
    bound: float | None
    optimal: bool
    solver: str


def choose(problem: Problem, time_limit_s: float = TIME_LIMIT_S, start: Iterable[int] = ()) -> Choice:
    """The best items. ``start``: a choice known to be good, beside the greedy one."""
    problem = _reduced(problem)
    known = frozenset(item for item in start if item in problem.sizes)
    starts = [_exchanged(problem, _greedy(problem)), known if _fits(problem, known) else frozenset()]
    best = min(starts, key=problem.total)
    if not find_spec("highspy"):
        return Choice(best, problem.total(best), None, False, "greedy and exchange")
    items, bound = _solve(problem, best, time_limit_s)
    best = min((best, items), key=problem.total)
    total = problem.total(best)
    return Choice(best, total, bound, bound is not None and total - bound <= GAP * abs(total), "HiGHS")


def _fits(problem: Problem, items: Iterable[int]) -> bool:
    return sum(problem.sizes[item] for item in items) <= problem.budget


def _reduced(problem: Problem) -> Problem:
    """Without options that save nothing or need more than another that costs no more, without items too large, and without items that another is better than everywhere."""
    options: dict[str, dict[frozenset[int], float]] = {}
    for query, base in problem.costs.items():
        given = {
            items: cost
            for items, cost in problem.options.get(query, {}).items()
            if cost < base and items and sum(problem.sizes[item] for item in items) <= problem.budget
        }
        kept: dict[frozenset[int], float] = {frozenset(): base}
        for items, cost in sorted(given.items(), key=lambda pair: (len(pair[0]), pair[1])):
            if all(cost < other_cost for other, other_cost in kept.items() if other <= items):
                kept[items] = cost
        options[query] = kept
    used = {item for kept in options.values() for items in kept for item in items}
    dominated = _dominated(problem, options, used)
    options = {query: {items: cost for items, cost in kept.items() if not items & dominated} for query, kept in options.items()}
    sizes = {item: problem.sizes[item] for item in used - dominated}
    return Problem(problem.costs, options, sizes, {item: problem.prices.get(item, 0.0) for item in sizes}, problem.budget)


def _dominated(problem: Problem, options: Mapping[str, Mapping[frozenset[int], float]], used: set[int]) -> set[int]:
    """Items that another, no larger and no dearer one can replace in each option, without any query getting dearer. Of two equal ones the first stays."""
    having: dict[int, list[tuple[str, frozenset[int], float]]] = {}
    for query, kept in options.items():
        for items, cost in kept.items():
            for item in items:
                having.setdefault(item, []).append((query, items, cost))
    gone: set[int] = set()
    ordered = sorted(used, key=lambda item: (problem.sizes[item], item))
    for item in ordered:
        first_query = having[item][0][0]
        rivals = {rival for items in options[first_query] for rival in items} - gone - {item}
        for rival in rivals:
            rank, rival_rank = (problem.sizes[item], problem.prices.get(item, 0.0), item), (problem.sizes[rival], problem.prices.get(rival, 0.0), rival)
            if rival_rank[0] > rank[0] or rival_rank[1] > rank[1]:
                continue
            pairs = [(cost, options[query].get((items - {item}) | {rival}, math.inf)) for query, items, cost in having[item]]
            if all(other <= cost for cost, other in pairs):
                same = rival_rank[:2] == rank[:2] and all(other == cost for cost, other in pairs) and len(having[item]) == len(having[rival])
                if not same or rival < item:
                    gone.add(item)
                    break
    return gone


def _greedy(problem: Problem) -> frozenset[int]:
    """Adds, while there is room, the option whose new items save most for their size."""
    chosen: set[int] = set()
    left = problem.budget
    bundles = sorted({items for kept in problem.options.values() for items in kept if items}, key=sorted)
    while True:
        now = problem.total(chosen)
        rated = []
        for bundle in bundles:
            new = bundle - chosen
            size = sum(problem.sizes[item] for item in new)
            if new and size <= left:
                saved = now - problem.total(chosen | new)
                if saved > 0:
                    rated.append((saved / max(size, 1.0), sorted(new), new, size))
        if not rated:
            return frozenset(chosen)
        _, _, new, size = max(rated, key=lambda item: (item[0], item[1]))
        chosen |= new
        left -= size
        bundles = [bundle for bundle in bundles if not bundle <= chosen]


def _exchanged(problem: Problem, chosen: frozenset[int]) -> frozenset[int]:
    """Exchanges one item for another, or takes one away or in, while that helps."""
    best, total = chosen, problem.total(chosen)
    for _ in range(EXCHANGES_MAX):
        room = problem.budget - sum(problem.sizes[item] for item in best)
        moves = [best - {item} for item in best]
        moves += [best | {new} for new in problem.sizes if new not in best and problem.sizes[new] <= room]
        moves += [(best - {old}) | {new} for old in best for new in problem.sizes if new not in best and problem.sizes[new] <= room + problem.sizes[old]]
        if len(moves) > EXCHANGES_MAX:
            return best
        better = min(moves, key=problem.total, default=best)
        if (value := problem.total(better)) >= total - 1e-9:
            return best
        best, total = better, value
    return best


def _solve(problem: Problem, start: frozenset[int], time_limit_s: float) -> tuple[frozenset[int], float | None]:
    """HiGHS on one core: an item is a binary column, an option a continuous one, which is whole in any optimum."""
    import highspy
    import numpy as np
    from highspy._core import _Highs

    items = sorted(problem.sizes)
    if not items:
        return frozenset(), problem.total(())
    place = {item: column for column, item in enumerate(items)}
    options = [(query, needed, problem.costs[query] - cost) for query, kept in problem.options.items() for needed, cost in kept.items() if needed]
    cost = [problem.prices.get(item, 0.0) for item in items] + [-saved for *_, saved in options]
    rows: list[tuple[list[int], list[float], float]] = [([place[item] for item in items], [problem.sizes[item] for item in items], problem.budget)]
    by_query: dict[str, list[int]] = {}
    linked: dict[tuple[str, int], list[int]] = {}
    for number, (query, needed, _) in enumerate(options, len(items)):
        by_query.setdefault(query, []).append(number)
        for item in needed:
            linked.setdefault((query, item), []).append(number)
    rows += [(columns, [1.0] * len(columns), 1.0) for columns in by_query.values()]
    rows += [([*columns, place[item]], [1.0] * len(columns) + [-1.0], 0.0) for (_, item), columns in linked.items()]
    model = _Highs()  # highspy.Highs greets on standard output whatever its options are
    for name, value in (
        ("output_flag", False),
        ("log_to_console", False),
        ("threads", 1),
        ("time_limit", time_limit_s),
        ("mip_rel_gap", GAP),
        ("random_seed", 1),
    ):
        model.setOptionValue(name, value)
    count = len(cost)
    model.addVars(count, np.zeros(count), np.ones(count))
    model.changeColsCost(count, np.arange(count, dtype=np.int32), np.array(cost))
    model.changeColsIntegrality(len(items), np.arange(len(items), dtype=np.int32), np.array([highspy.HighsVarType.kInteger] * len(items)))
    for columns, values, upper in rows:
        model.addRow(-highspy.kHighsInf, upper, len(columns), np.array(columns, dtype=np.int32), np.array(values))
    _give_start(model, problem, items, options, start)
    model.run()
    solution = model.getSolution().col_value
    chosen = frozenset(item for item in items if solution[place[item]] > 0.5) if len(solution) == count else start
    bound = model.getInfo().mip_dual_bound + sum(problem.costs.values())
    return (chosen if _fits(problem, chosen) else start), bound if math.isfinite(bound) else None


def _give_start(model: object, problem: Problem, items: Sequence[int], options: Sequence[tuple[str, frozenset[int], float]], start: frozenset[int]) -> None:
    import highspy

    solution = highspy.HighsSolution()
    best: dict[str, tuple[float, int]] = {}
    for number, (query, needed, saved) in enumerate(options):
        if needed <= start and saved > best.get(query, (0.0, -1))[0]:
            best[query] = (saved, number)
    taken = {number for _, number in best.values()}
    solution.col_value = [1.0 if item in start else 0.0 for item in items] + [1.0 if number in taken else 0.0 for number in range(len(options))]
    model.setSolution(solution)  # type: ignore[attr-defined]
