"""Is what we report true? A server with known delays and a stall of a second; the latencies that it must have caused are computed and compared."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

from bench.load_rows.known_server import DELAYS, delays_s
from bench.load_rows.machine import FOLDER, SERVER_CORE, MissingError, ours, running
from bench.load_rows.speed import k6_summary
from bench.table import Row
from perfloop.load.engines.schedule import arrival_times
from perfloop.model.journey import Step, Workload

PORT = 18_481
URL = f"http://127.0.0.1:{PORT}"
RATE_PER_S, DURATION_S, SEED = 1_000.0, 20.0, 5
STALL_AT, STALL_S = 8_000, 1.0
SHARE_MAX, ABSOLUTE_MAX_S = 0.02, 0.0003
CLOSED_USERS = 6  # each asks 180 times a second: about the rate of the open load
MISSED_BELOW = 0.5  # of the true p99
REPORT = FOLDER / "known_server.json"


def rows() -> list[Row]:
    steps = (Step(name="GET /{k}", paths=tuple(f"/{k}" for k in range(DELAYS))),)
    workload = Workload(base_url=URL, steps=steps, rate_per_s=RATE_PER_S, duration_s=DURATION_S, seed=SEED, connections_max=4_000, timeout_s=20)
    with known_server():
        told, _ = ours(workload)
    late_s = server_lateness()
    true_s = sorted(true_latencies(late_s))
    print(told, flush=True)
    if told["ok"] != len(true_s):
        return [Row("truth of the percentiles", None, "ms", "", None, why=f"{told['ok']} answers for {len(true_s)} arrivals: {told['errors']}")]
    own_ms = sorted(late * 1e3 for lates in late_s.values() for late in lates)
    why = f"the server itself was late by p50 {own_ms[len(own_ms) // 2]:.3f} ms, p99 {own_ms[len(own_ms) * 99 // 100]:.2f} ms, which is part of the truth"
    table = []
    for q, name in ((0.5, "p50"), (0.9, "p90"), (0.95, "p95"), (0.99, "p99"), (0.999, "p99.9")):
        expected, found = true_s[max(0, ceil(q * len(true_s)) - 1)], told["quantiles_s"][str(q)]
        ok = abs(found - expected) <= max(SHARE_MAX * expected, ABSOLUTE_MAX_S)
        measure, needed, ratio = f"truth: {name} with a stall of 1 s", "± 2 % or 0.3 ms", round(found / expected, 4)
        table.append(Row(measure, round(found * 1e3, 3), "ms", needed, ok, "computed", round(expected * 1e3, 3), ratio, why if q == 0.5 else ""))
    return [*table, closed_tool(true_s)]


def closed_tool(true_s: list[float]) -> Row:
    """What a closed-loop tool shows of the same stall at the same rate: not a requirement on us, but why it matters.

    k6, as most people use it: each user waits for its answer. Not wrk: it knows the problem, and adds the requests that it did not send.
    """
    measure = f"the same stall in the p99 of {CLOSED_USERS} users of k6 in a closed loop"
    try:
        with known_server():
            found = k6_summary("stall.js", URL=URL, DURATION=f"{DURATION_S:.0f}s", USERS=str(CLOSED_USERS), DELAYS=str(DELAYS))
    except MissingError as error:
        return Row(measure, None, "ms", "–", None, why=str(error))
    shown_ms, expected_ms = found["http_req_duration"]["p(99)"], true_s[ceil(0.99 * len(true_s)) - 1] * 1e3
    missed, rate = shown_ms < MISSED_BELOW * expected_ms, found["http_reqs"]["rate"]
    why = f"at {rate:.0f}/s; it stops asking while the server stands still, so {CLOSED_USERS} of {found['http_reqs']['count']:.0f} requests meet the stall"
    return Row(measure, round(shown_ms, 1), "ms", "misses it", missed, "computed for open load", round(expected_ms, 1), round(shown_ms / expected_ms, 3), why)


@contextmanager
def known_server() -> Iterator[None]:
    """The server on its core; afterwards its report is there."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    REPORT.unlink(missing_ok=True)
    words = (str(PORT), str(STALL_AT), str(STALL_S), str(REPORT))
    with running(["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "bench.load_rows.known_server", *words]):
        time.sleep(0.7)
        yield


def server_lateness() -> dict[int, list[float]]:
    """How late the server was, by path, in the order of the requests."""
    late_s: dict[int, list[float]] = {}
    for k, late in json.loads(REPORT.read_text()):
        late_s.setdefault(k, []).append(late)
    return late_s


def true_latencies(late_s: dict[int, list[float]]) -> list[float]:
    """Each request's latency from its intended start: its delay, or the rest of the stall that its answer fell into; and what the server was late."""
    delays = delays_s()
    starts = list(arrival_times(RATE_PER_S, DURATION_S, "poisson", SEED))
    stall_from = starts[STALL_AT - 1]
    found = []
    for number, start in enumerate(starts):
        ready = start + delays[number % DELAYS]
        if stall_from <= ready < stall_from + STALL_S:
            ready = stall_from + STALL_S
        found.append(ready - start + late_s[number % DELAYS][number // DELAYS])
    return found
