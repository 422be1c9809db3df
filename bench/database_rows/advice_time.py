"""The time of TPC-H's queries with our set of indexes against the peers' sets, each really built, in paired and interleaved rounds.

The sets are those that ``advice`` left in the bench's folder. Resumable: each round is kept in ``advice-times.json``; a round builds each set in turn (in an order drawn
by chance), vacuums nothing, runs each query three times and takes the fastest.
"""

from __future__ import annotations

import json
import random
import time
from typing import Any

import psycopg

from bench.database_tools import tpch
from bench.database_tools.options import Options
from bench.database_tools.server import Server
from bench.table import Row
from perfloop.stats.intervals import geometric_t_interval

ROUNDS = 6
RUNS = 3
LEFT_S = 200.0
WORSE_MS = 1.0  # a query that takes less than a millisecond longer is not called worse


def rows(options: Options) -> list[Row]:
    """All rows of the group."""
    given, kept = options.work / "advice-sets.json", options.work / "advice-times.json"
    if not given.exists():
        return [_unmeasured("python -m bench.database --only advice comes first")]
    sets: dict[str, list[str]] = {"none": [], **json.loads(given.read_text())}
    stored = json.loads(kept.read_text()) if kept.exists() else {}
    rounds: list[dict[str, dict[str, float]]] = stored.get("rounds", []) if stored.get("sets") == sets else []
    texts = {number: text for number, text in tpch.queries().items() if number not in tpch.LEFT_OUT}
    began = time.monotonic()
    with Server(options.work, "pg", 15) as server:
        name = tpch.ensure(server, options.work)
        with server.connect(database=name) as owner:
            tpch.without_indexes(owner)
            while len(rounds) < ROUNDS and time.monotonic() - began < LEFT_S:
                order = list(sets)
                random.Random(len(rounds)).shuffle(order)
                rounds.append({peer: _times(owner, sets[peer], texts) for peer in order})
                kept.write_text(json.dumps({"sets": sets, "rounds": rounds}))
    if len(rounds) < 3:
        return [_unmeasured(f"{len(rounds)} of {ROUNDS} rounds so far")]
    return _rows(rounds)


def _unmeasured(why: str) -> Row:
    return Row("live advice on TPC-H: measured execution time against the peers' sets", None, "", "better, proved", None, why=why)


def _times(owner: psycopg.Connection[Any], ddl: list[str], texts: dict[int, str]) -> dict[str, float]:
    """Milliseconds of each query, the fastest of three."""
    for statement in ddl:
        owner.execute(statement.encode())
    found = {}
    for number, text in texts.items():
        times = []
        for _ in range(RUNS):
            began = time.perf_counter()
            owner.execute(text.encode()).fetchall()
            times.append(1000 * (time.perf_counter() - began))
        found[str(number)] = min(times)
    tpch.without_indexes(owner)
    return found


def _rows(rounds: list[dict[str, dict[str, float]]]) -> list[Row]:
    whole = [{peer: sum(times.values()) for peer, times in one.items()} for one in rounds]
    peers = [peer for peer in whole[0] if peer not in ("ours", "none")]
    ratios = {peer: geometric_t_interval([one["ours"] / one[peer] for one in whole]) for peer in peers}
    best = min(peers, key=lambda peer: sum(one[peer] for one in whole))
    without = geometric_t_interval([one["ours"] / one["none"] for one in whole])
    told = "; ".join(f"{peer}: \u00d7 {ratio:.3f} ({low:.3f} to {high:.3f})" for peer, (ratio, low, high) in ratios.items())
    ratio, _, high = ratios[best]
    worse = _worse(rounds)
    return [
        Row(
            "live advice on TPC-H: measured execution time against the peers' sets",
            round(ratio, 4),
            "of",
            "below 1 with its interval",
            high < 1,
            f"{best}",
            1.0,
            round(ratio, 4),
            why=f"{len(rounds)} paired rounds, 95 % intervals: {told}; against no index: \u00d7 {without[0]:.3f}",
        ),
        Row(
            "live advice on TPC-H: queries measured more than 5 % slower than without the indexes",
            float(len(worse)),
            "",
            "0",
            not worse,
            why="; ".join(f"Q{number}: \u00d7 {value:.2f}" for number, value in worse.items())
            or f"{len(rounds[0]['ours'])} queries, slower only where the interval of its ratio says so",
        ),
    ]


def _worse(rounds: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    found = {}
    for number in rounds[0]["ours"]:
        ratio, low, _ = geometric_t_interval([one["ours"][number] / one["none"][number] for one in rounds])
        more = sum(one["ours"][number] - one["none"][number] for one in rounds) / len(rounds)
        if low > 1.05 and more > WORSE_MS:
            found[number] = ratio
    return found
