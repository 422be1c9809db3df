"""Is what we report true? A server with known delays and a stall of a second; the latencies that it must have caused are computed and compared."""

from __future__ import annotations

import re
import sys
import time
from math import ceil

from bench.load_rows.known_server import DELAYS, delays_s
from bench.load_rows.machine import SERVER_CORE, MissingError, ours, peer, run, running
from bench.table import Row
from perfloop.load.engines.schedule import arrival_times
from perfloop.model.journey import Step, Workload

PORT = 18_481
RATE_PER_S, DURATION_S, SEED = 1_000.0, 20.0, 5
STALL_AT, STALL_S = 8_000, 1.0
SHARE_MAX, ABSOLUTE_MAX_S = 0.02, 0.0003


def rows() -> list[Row]:
    steps = (Step(name="GET /{k}", paths=tuple(f"/{k}" for k in range(DELAYS))),)
    workload = Workload(
        base_url=f"http://127.0.0.1:{PORT}", steps=steps, rate_per_s=RATE_PER_S, duration_s=DURATION_S, seed=SEED, connections_max=4_000, timeout_s=20
    )
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "bench.load_rows.known_server", str(PORT), str(STALL_AT), str(STALL_S)]
    with running(command, spins=True):
        time.sleep(0.7)
        told, _ = ours(workload)
    true_s = sorted(true_latencies())
    table = []
    if told["ok"] != len(true_s):
        return [Row("truth of the percentiles", None, "ms", "", None, why=f"{told['ok']} answers for {len(true_s)} arrivals: {told['errors']}")]
    for q, name in ((0.5, "p50"), (0.9, "p90"), (0.95, "p95"), (0.99, "p99"), (0.999, "p99.9")):
        expected, found = true_s[max(0, ceil(q * len(true_s)) - 1)], told["quantiles_s"][str(q)]
        off = abs(found - expected)
        ok = off <= max(SHARE_MAX * expected, ABSOLUTE_MAX_S)
        table.append(
            Row(
                f"truth: {name} with a stall of 1 s",
                round(found * 1e3, 3),
                "ms",
                "± 2 % or 0.3 ms",
                ok,
                "computed",
                round(expected * 1e3, 3),
                round(found / expected, 4),
            )
        )
    return [*table, closed_tool(true_s)]


def closed_tool(true_s: list[float]) -> Row:
    """What a closed-loop tool shows of the same stall: not a requirement on us, but why it matters."""
    measure = "the same stall in wrk's p99 (closed loop, for comparison)"
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "bench.load_rows.known_server", str(PORT), str(STALL_AT), str(STALL_S)]
    try:
        with running(command, spins=True):
            time.sleep(0.7)
            text = run([peer("wrk"), "-t1", "-c5", f"-d{DURATION_S:.0f}s", "--latency", f"http://127.0.0.1:{PORT}/1"]).text
    except MissingError as error:
        return Row(measure, None, "ms", "–", None, why=str(error))
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    shown_ms = float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]
    expected_ms = true_s[ceil(0.99 * len(true_s)) - 1] * 1e3
    return Row(measure, shown_ms, "ms", "–", True, "computed for open load", round(expected_ms, 1), why="it stops asking while the server stands still")


def true_latencies() -> list[float]:
    """Each request's latency from its intended start: its delay, or the rest of the stall that its answer fell into."""
    delays = delays_s()
    starts = list(arrival_times(RATE_PER_S, DURATION_S, "poisson", SEED))
    stall_from = starts[STALL_AT - 1]
    found = []
    for number, start in enumerate(starts):
        ready = start + delays[number % DELAYS]
        if stall_from <= ready < stall_from + STALL_S:
            ready = stall_from + STALL_S
        found.append(ready - start)
    return found
