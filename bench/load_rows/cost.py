"""What a request and a user cost us: CPU at a fixed rate, memory of idle users with a connection each, and how late the schedule is."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench.load_rows.machine import FOLDER, PORT, URL, MissingError, nginx, ours, peer, run
from bench.load_rows.speed import SCRIPTS
from bench.table import Row
from perfloop.model.journey import Step, Workload

RATE_PER_S, SHORT_S, LONG_S, ROUNDS, FLOOR_S = 5_000, 4, 16, 2, 4
LATE_RATE_PER_S, LATE_S, LATE_RUNS = 20_000, 8, 5
GET = (Step(name="GET /", paths=("/",)),)
MEMORY_MAX_BYTES = 2 * 2**30
SOURCES = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")


def cpu() -> list[Row]:
    """CPU time that one more request costs: the difference of a long and a short run, so that starting up is in neither side."""
    mine, theirs = [], []
    measure = f"CPU per request at {RATE_PER_S:,}/s"
    try:
        with nginx():
            floors = {mode: floor(mode) for mode in ("patient", "eager")}
            for _ in range(ROUNDS):
                mine.append(_slope(_ours_cpu))
                theirs.append(_slope(_k6_cpu))
                print(mine, theirs, flush=True)
    except MissingError as error:
        return [Row(measure, None, "µs", "≤ 0.25 ×", None, "k6", why=str(error))]
    value, peer_value = median(mine), median(theirs)
    ratio = value / peer_value
    why = f"of {ROUNDS} rounds: ours {_spread(mine)}, k6 {_spread(theirs)}"
    table = [Row(measure, round(value, 1), "µs", "≤ 0.25 ×", ratio <= 0.25, "k6", round(peer_value, 1), round(ratio, 3), why)]
    for mode, told in floors.items():
        how = {"patient": "sleeps until each arrival, sends, reads what came for the one before", "eager": "is woken for each answer as well"}[mode]
        name = f"{measure}: a C program that {how}"
        if told is None:
            table.append(Row(name, None, "µs", "–", None, "k6", why="there is no C compiler"))
        else:
            late = f"lateness p50 {told['late_p50_us']} µs, p99 {told['late_p99_us']} µs"
            table.append(
                Row(name, told["cpu_us"], "µs", "–", True, "k6", round(peer_value, 1), round(told["cpu_us"] / peer_value, 3), f"the floor here; {late}")
            )
    return table


def floor(mode: str) -> dict[str, float] | None:
    """What ``floor.c`` tells of a mode; None without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    program = FOLDER / "floor"
    subprocess.run([compiler, "-O2", "-o", str(program), str(Path(__file__).with_name("floor.c"))], check=True)
    told: dict[str, float] = json.loads(run([str(program), mode, str(RATE_PER_S), str(FLOOR_S), str(PORT)]).text)
    return told


def _slope(once: Callable[[float], tuple[float, float]]) -> float:
    short, long = (once(duration_s) for duration_s in (SHORT_S, LONG_S))
    return 1e6 * (long[0] - short[0]) / (long[1] - short[1])


def _ours_cpu(duration_s: float) -> tuple[float, float]:
    told, cost = ours(Workload(base_url=URL, steps=GET, rate_per_s=RATE_PER_S, arrival="constant", duration_s=duration_s))
    return cost.cpu_s, told["ok"]


def _k6_cpu(duration_s: float) -> tuple[float, float]:
    words = {"URL": URL, "DURATION": f"{duration_s:.0f}s", "RATE": str(RATE_PER_S)}
    done = run([peer("k6"), "run", "--quiet", "--no-usage-report", *(f"-e{k}={v}" for k, v in words.items()), str(SCRIPTS / "rate.js")])
    sent = next(line for line in done.text.splitlines() if "http_reqs" in line).split(":")[1].split()[0]
    return done.cpu_s, float(sent)


def _spread(values: list[float], unit: str = "µs") -> str:
    return f"{min(values):.3g} to {max(values):.3g} {unit}"


def memory_few() -> list[Row]:
    measure = "memory a user, 10,000 users with a connection each"
    try:
        with nginx():
            told, cost = ours(_idle(10_000, 12, 20))
            peer_cost = run([peer("k6"), "run", "--quiet", "--no-usage-report", f"-eURL={URL}", "-eUSERS=10000", str(SCRIPTS / "idle.js")], env={"GOGC": "100"})
    except MissingError as error:
        return [Row(measure, None, "KiB", "≤ 0.1 ×", None, "k6", why=str(error))]
    mine, theirs = cost.rss_bytes / 10_000 / 1024, peer_cost.rss_bytes / 10_000 / 1024
    print(told, cost.rss_bytes, peer_cost.rss_bytes, flush=True)
    whole = told["users"] == 10_000 and not told["errors"]
    return [Row(measure, round(mine, 1), "KiB", "≤ 0.1 ×", mine <= 0.1 * theirs and whole, "k6", round(theirs, 1), round(mine / theirs, 4))]


def memory_many() -> list[Row]:
    measure = "memory in all, 50,000 users with a connection each"
    try:
        with nginx(4):
            told, cost = ours(_idle(50_000, 30, 40).with_(source_addresses=SOURCES), timeout_s=200)
    except MissingError as error:
        return [Row(measure, None, "MiB", "≤ 2048", None, why=str(error))]
    print(told, cost.rss_bytes, flush=True)
    whole = told["users"] == 50_000 and not told["errors"]
    why = "" if whole else f"{told['users']} users, errors {told['errors']} {told['first_errors']}"
    return [Row(measure, round(cost.rss_bytes / 2**20), "MiB", "≤ 2048", whole and cost.rss_bytes <= MEMORY_MAX_BYTES, why=why)]


def lateness() -> list[Row]:
    """The median of the p99 of several runs; all of them are told."""
    runs = []
    with nginx():
        for _ in range(LATE_RUNS):
            told, _ = ours(Workload(base_url=URL, steps=GET, rate_per_s=LATE_RATE_PER_S, duration_s=LATE_S))
            print(told, flush=True)
            runs.append(told)
    p99s_ms = [told["lateness_s"]["0.99"] * 1e3 for told in runs]
    whole = all(told["ok"] == told["sent"] for told in runs)
    others = ", ".join(f"{name} {median(told['lateness_s'][q] for told in runs) * 1e3:.3f} ms" for q, name in (("0.5", "p50"), ("0.999", "p99.9")))
    why = f"median of {LATE_RUNS} runs of {LATE_S} s, {_spread(p99s_ms, 'ms')}; {others}, busy {median(told['busy'] for told in runs):.2f} of a core"
    value = median(p99s_ms)
    return [Row(f"lateness of the schedule at {LATE_RATE_PER_S:,}/s, p99", round(value, 3), "ms", "≤ 1", value <= 1 and whole, why=why)]


def _idle(users: int, ramp_up_s: float, duration_s: float) -> Workload:
    return Workload(base_url=URL, steps=GET, users=users, think_s=(5, 15), ramp_up_s=ramp_up_s, duration_s=duration_s, timeout_s=30)
