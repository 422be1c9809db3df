"""Peers of the index advice, implemented here from their descriptions, because the originals do not run on ordinary SQL or are no packages.

Extend (Schlosser, Kossmann, Boissier, ICDE 2019): from single columns, each step takes the new index or the longer one that saves most for its size.
DTA (Chaudhuri, Narasayya: Anytime Algorithm of Database Tuning Advisor, 2020): the best small set of each query, merged with those of the others, then greedily by
what the workload saves, until the storage or the time is used up.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import psycopg

from bench.database_tools import hypopg, tpch
from bench.database_tools.server import Server
from perfloop.twin.build import Twin, explain
from perfloop.twin.hidden import Hidden
from perfloop.twin.snapshot import take

ROOM_MB = 60.0
WIDTH_MAX = 2
DTA_SECONDS = 30.0  # as in hyrise/index_selection_evaluation
DTA_OF_QUERY = 3

Ask = Callable[[frozenset[str]], tuple[float, float]]  # a set of indexes (t(a,b)) → (summed cost, bytes)
Costs = Callable[[str, frozenset[str]], float]  # a query with a set
Size = Callable[[str], float]


def _columns(texts: dict[int, str]) -> list[str]:
    words = {word for text in texts.values() for word in re.findall(r"\b[a-z]+_[a-z]+\b", text)}
    found = re.findall(r"create table (\w+) \((.*)\);", tpch.SCHEMA)
    return [
        f"{table}.{column}" for table, body in found for column in re.findall(r"\b([a-z]+_[a-z]+) (?:int|char|varchar|numeric|date)", body) if column in words
    ]


def _extend(columns: Sequence[str], ask: Ask) -> list[str]:
    chosen: frozenset[str] = frozenset()
    cost, size = ask(chosen)
    while True:
        moves = [chosen | {f"{column.split('.')[0]}({column.split('.')[1]})"} for column in columns]
        for index in chosen:
            table, keys = index[:-1].split("(")
            if keys.count(",") + 1 < WIDTH_MAX:
                longer = [column.split(".")[1] for column in columns if column.startswith(table + ".") and column.split(".")[1] not in keys.split(",")]
                moves += [(chosen - {index}) | {f"{table}({keys},{column})"} for column in longer]
        rated = []
        for move in moves:
            if move != chosen:
                new_cost, new_size = ask(move)
                if new_size <= ROOM_MB * 1e6 and new_cost < cost * 0.9999:
                    rated.append(((cost - new_cost) / max(1.0, new_size - size), sorted(move), new_cost, new_size))
        if not rated:
            return sorted(chosen)
        _, best, cost, size = max(rated)
        chosen = frozenset(best)


def _cached(texts: dict[int, str], plan: Callable[[str, frozenset[str]], float], size: Callable[[str], float]) -> Ask:
    known: dict[tuple[int, frozenset[str]], float] = {}
    sizes: dict[str, float] = {}

    def ask(chosen: frozenset[str]) -> tuple[float, float]:
        whole = 0.0
        for number, text in texts.items():
            mine = frozenset(index for index in chosen if re.search(rf"\b{index.split('(')[0]}\b", text))
            if (number, mine) not in known:
                known[number, mine] = plan(text, mine)
            whole += known[number, mine]
        for index in chosen - sizes.keys():
            sizes[index] = size(index)
        return whole, sum(sizes[index] for index in chosen)

    return ask


def by_hypopg(owner: psycopg.Connection[Any], work: Path, texts: dict[int, str]) -> dict[str, tuple[list[str], float]]:
    """Extend and DTA by HypoPG's costs and sizes, each with the seconds that it took."""
    hypopg.load(owner, work)

    def plan(text: str, chosen: frozenset[str]) -> float:
        owner.execute("select hypopg_reset()")
        for index in chosen:
            owner.execute("select hypopg_create_index(%s)", (f"create index on {index}",))
        return float(explain(owner, text)["Total Cost"])

    def size(index: str) -> float:
        owner.execute("select hypopg_reset()")
        return float(owner.execute("select hypopg_relation_size(indexrelid) from hypopg_create_index(%s)", (f"create index on {index}",)).fetchone()[0])  # type: ignore[index]

    found = {}
    for name, advise in (("Extend by HypoPG", _extend_set), ("DTA by HypoPG", _dta)):
        began = time.monotonic()
        found[name] = (advise(texts, plan, size), time.monotonic() - began)
    owner.execute("select hypopg_reset()")
    owner.execute("drop schema hypo cascade")
    owner.execute("set search_path = public")
    return found


def _extend_set(texts: dict[int, str], plan: Costs, size: Size) -> list[str]:
    return _extend(_columns(texts), _cached(texts, plan, size))


def _dta(texts: dict[int, str], plan: Costs, size: Size) -> list[str]:
    until = time.monotonic() + DTA_SECONDS
    pool: dict[str, None] = {}
    for number, text in texts.items():
        ask = _cached({number: text}, plan, size)
        for index in _best_of(_of_query({number: text}), ask, until):
            pool[index] = None
    for one, other in combinations(list(pool), 2):  # merged: the columns of one, then what the other has beyond
        (table, keys), (other_table, other_keys) = (index[:-1].split("(") for index in (one, other))
        if table == other_table:
            columns = list(dict.fromkeys((*keys.split(","), *other_keys.split(","))))
            if len(columns) <= WIDTH_MAX + 1:
                pool[f"{table}({','.join(columns)})"] = None
    return sorted(_greedy(list(pool), _cached(texts, plan, size), until))


def _of_query(text: dict[int, str]) -> list[str]:
    by: dict[str, list[str]] = {}
    for column in _columns(text):
        by.setdefault(column.split(".")[0], []).append(column.split(".")[1])
    return [f"{table}({','.join(keys)})" for table, columns in by.items() for width in (1, 2) for keys in permutations(columns, width)]


def _best_of(candidates: list[str], ask: Ask, until: float) -> list[str]:
    """A few indexes for one query, each the one that saves most; of two columns only those that begin with a helpful one."""
    base = ask(frozenset())[0]
    single = {index: base - ask(frozenset({index}))[0] for index in candidates if "," not in index}
    helpful = {index[:-1] for index, saved in single.items() if saved > 0}
    return sorted(_greedy([index for index in candidates if index[:-1].split(",")[0] in helpful][:120], ask, until))[:DTA_OF_QUERY]


def _greedy(candidates: list[str], ask: Ask, until: float) -> frozenset[str]:
    chosen: frozenset[str] = frozenset()
    cost, _ = ask(chosen)
    while time.monotonic() < until:
        rated = []
        for index in candidates:
            if index not in chosen:
                new_cost, size = ask(chosen | {index})
                if size <= ROOM_MB * 1e6 and new_cost < cost * 0.9999:
                    rated.append((new_cost, index))
        if not rated:
            break
        cost, best = min(rated)
        chosen |= {best}
    return chosen


def extend_by_twin(server: Server, name: str, texts: dict[int, str]) -> tuple[list[str], float]:
    began = time.monotonic()
    with server.connect("reader", name) as connection:
        snapshot = take(connection, tpch.TABLES)
    made: dict[str, Hidden] = {}
    with Twin(snapshot) as twin:

        def get(index: str) -> Hidden:
            if index not in made:
                (made[index],) = twin.add([f"create index on {index}"])
            return made[index]

        def plan(text: str, chosen: frozenset[str]) -> float:
            twin.show([get(index) for index in chosen])
            return float(twin.explain(text)["Total Cost"])

        return _extend(_columns(texts), _cached(texts, plan, lambda index: get(index).pages * 8192.0)), time.monotonic() - began
