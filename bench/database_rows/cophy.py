"""The choice alone, without a database: the published what-if tables of TPC-H and their optima (hyrise/index_selection_evaluation; the optima by Gurobi)."""

from __future__ import annotations

import re
import time
from pathlib import Path

from bench.database_tools.options import Options
from bench.table import Row
from perfloop.stats.selection import Problem, choose

SECONDS_MAX = 10.0
WITHIN = 1e-3


def rows(options: Options) -> list[Row]:
    """All rows of the group."""
    file, notes = options.data / "cophy" / "tpch.txt", options.data / "README.md"
    if not file.exists() or not notes.exists():
        return [
            Row(
                "CoPhy tables of TPC-H: choice against the published optimum",
                None,
                "%",
                "<= 0.1",
                None,
                why="cophy/tpch.txt is not in the folder that --data names",
            )
        ]
    optima = {int(mb): float(cost) for mb, cost in re.findall(r"(\d+): (\d+\.\d\d)", notes.read_text())}
    worst = slowest = greedy_worst = 0.0
    proven = 0
    for mb, optimum in optima.items():
        problem = read(file, mb * 1e6)
        greedy_worst = max(greedy_worst, problem.total(plain_greedy(problem)) / optimum - 1)
        began = time.process_time()
        choice = choose(problem)
        slowest = max(slowest, time.process_time() - began)
        worst = max(worst, choice.total / optimum - 1)
        proven += choice.optimal
    return [
        Row(
            f"CoPhy tables of TPC-H, {len(optima)} budgets: worst choice above the published optimum",
            round(worst * 100, 4),
            "%",
            "<= 0.1",
            worst <= WITHIN and len(optima) == 16,
            against="plain greedy by benefit per byte, implemented in the bench",
            peer_value=round(greedy_worst * 100, 2),
            why=f"proven optimal by the solver's bound at {proven} of {len(optima)}",
        ),
        Row("CoPhy tables of TPC-H: slowest budget, processor time on one core", round(slowest, 2), "s", f"<= {SECONDS_MAX:g}", slowest <= SECONDS_MAX),
    ]


def read(file: Path, budget: float) -> Problem:
    """The problem of one of hyrise's AMPL data files."""
    text = file.read_text()
    sizes = {int(number): float(size) for number, size in re.findall(r"^(\d+) (\d+)(?: #.*)?$", text.split("param size :=")[1].split(";")[0], re.M)}
    sets = {
        int(number): frozenset(int(index) for index in items.split())
        for number, items in re.findall(r"^set indexes_per_combination\[(\d+)\]:=([^;]*);", text, re.M)
    }
    costs: dict[str, float] = {}
    options: dict[str, dict[frozenset[int], float]] = {}
    asked = set(re.findall(r"\d+", text.split("set QUERIES :=")[1].split(";")[0]))
    for query, combination, cost in re.findall(r"^(\d+) (\d+) (\d+(?:\.\d+)?)$", text[text.rindex("set indexes_per_combination") :], re.M):
        if query not in asked:
            continue
        if not sets[int(combination)]:
            costs[query] = float(cost)
        options.setdefault(query, {})[sets[int(combination)]] = float(cost)
    return Problem(costs, options, sizes, {}, budget)


def plain_greedy(problem: Problem) -> frozenset[int]:
    """What advisors do: take the index of the greatest benefit per byte until nothing fits."""
    chosen: set[int] = set()
    left = problem.budget
    while True:
        now = problem.total(chosen)
        rated = [((now - problem.total(chosen | {item})) / size, item) for item, size in problem.sizes.items() if item not in chosen and size <= left]
        best = max(rated, default=(0.0, 0))
        if best[0] <= 0:
            return frozenset(chosen)
        chosen.add(best[1])
        left -= problem.sizes[best[1]]
