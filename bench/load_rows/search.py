"""The search for the highest rate that keeps the SLO, as a user runs it, on servers whose true limit is known.

The truth is the long-run p95 of the server's queue: exact for exponential service (M/M/1), by a long simulation of the same queue for paced service (M/D/1).

python -m bench.load_rows.search
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.table import Row, finish

ROOT = Path(__file__).parents[2]
START_PER_S, MAX_PER_S = 8.0, 20_000.0
ERROR_MAX, PROBES_MAX = 0.05, 8
#: kind of service, its limit a second, p95 promised in ms
SERVERS = (("paced", 1_200.0, 30.0), ("random", 900.0, 40.0))


@contextlib.contextmanager
def server(kind: str, limit_per_s: float) -> Iterator[int]:
    """The server on the last core, where there are several."""
    argv = [sys.executable, "-m", "bench.load_rows.limit_server", "--kind", kind, "--limit", str(limit_per_s)]
    cores = sorted(os.sched_getaffinity(0))
    pin = ["taskset", "-c", str(cores[-1])] if len(cores) > 1 else []
    process = subprocess.Popen([*pin, *argv], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.communicate(timeout=10)


def truth(kind: str, limit_per_s: float, bound_s: float) -> float:
    """The rate whose long-run p95 is the bound, under Poisson arrivals."""
    if kind == "random":
        return limit_per_s - math.log(20) / bound_s
    low, high = 0.1 * limit_per_s, limit_per_s
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if _p95_paced(limit_per_s, middle) <= bound_s else (low, middle)
    return low


def _p95_paced(limit_per_s: float, rate: float, count: int = 400_000) -> float:
    """Lindley's recursion: the wait of each request from the wait of the one before."""
    draw, wait, took = random.Random(3).expovariate, 0.0, 1 / limit_per_s
    waits = []
    for _ in range(count):
        wait = max(0.0, wait + took - draw(rate))
        waits.append(wait)
    waits.sort()
    return waits[int(0.95 * count)] + took


def searched(port: int, bound_ms: float) -> dict:
    """``perfloop load --kind stress --json`` on it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "perfloop.toml").write_text(
            f'[target]\nenvironment = "sandbox"\n[slo]\nlatency_p95_ms = {bound_ms}\n[limits]\nrate_max_per_s = {MAX_PER_S}\n'
        )
        done = subprocess.run(
            [sys.executable, "-m", "perfloop", "load", f"http://127.0.0.1:{port}", "--kind", "stress", "--json", "-q"],
            cwd=folder, capture_output=True, text=True, timeout=600, check=False, env={**os.environ, "PERFLOOP_STATE_DIR": f"{folder}/state"},
        )  # fmt: skip
        answer = json.loads(done.stdout) if done.stdout else {}
        if done.returncode not in (0, 1) or not answer.get("throughput_before"):
            raise RuntimeError(f"exit {done.returncode}: {done.stderr[-400:]}")
        return answer["throughput_before"]


def rows() -> list[Row]:
    """Error of the rate found, and probes used, for each server."""
    by_hand = math.ceil(math.log2(math.log(MAX_PER_S / START_PER_S) / math.log(1 + ERROR_MAX)))
    made = []
    for kind, limit_per_s, bound_ms in SERVERS:
        name = f"search, {kind} service of {limit_per_s:g}/s, p95 ≤ {bound_ms:g} ms"
        with server(kind, limit_per_s) as port:
            try:
                found = searched(port, bound_ms)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                made.append(Row(name, None, "%", f"<= {100 * ERROR_MAX:g}", None, why=str(error)))
                continue
        true_per_s = truth(kind, limit_per_s, bound_ms / 1000)
        rate = found["rate_per_s"]
        probes = len(found["probes"]) + 1  # the window of closed load that shows the ceiling is one
        error = abs(rate / true_per_s - 1) if rate else 1.0
        why = f"{rate or 0:.0f}/s found, {true_per_s:.0f}/s true"
        made.append(Row(f"{name}: error", round(100 * error, 1), "%", f"<= {100 * ERROR_MAX:g}", error <= ERROR_MAX, why=why))
        against = f"bisection by hand between {START_PER_S:g} and {MAX_PER_S:g}/s (computed)"
        made.append(
            Row(f"{name}: probes", probes, "", f"<= {PROBES_MAX}", probes <= PROBES_MAX, against=against, peer_value=by_hand, ratio=round(probes / by_hand, 2))
        )
    return made


if __name__ == "__main__":
    raise SystemExit(finish("load-search", rows()))
