"""What a request and a user cost us: CPU at a fixed rate, memory of idle users with a connection each, and how late the schedule is."""

from __future__ import annotations

from statistics import median

from bench.load_rows.machine import URL, MissingError, nginx, ours, peer, run
from bench.load_rows.speed import SCRIPTS
from bench.table import Row
from perfloop.model.journey import Step, Workload

RATE_PER_S, RATE_S, ROUNDS = 5_000, 15, 2
LATE_RATE_PER_S = 20_000
GET = (Step(name="GET /", paths=("/",)),)
MEMORY_MAX_BYTES = 2 * 2**30
SOURCES = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")


def cpu() -> list[Row]:
    mine, theirs = [], []
    measure = f"CPU per request at {RATE_PER_S:,}/s"
    try:
        with nginx():
            for _ in range(ROUNDS):
                told, cost = ours(Workload(base_url=URL, steps=GET, rate_per_s=RATE_PER_S, arrival="constant", duration_s=RATE_S))
                mine.append(1e6 * cost.cpu_s / told["ok"])
                words = {"URL": URL, "DURATION": f"{RATE_S}s", "RATE": str(RATE_PER_S)}
                done = run([peer("k6"), "run", "--quiet", "--no-usage-report", *(f"-e{k}={v}" for k, v in words.items()), str(SCRIPTS / "rate.js")])
                sent = next(line for line in done.text.splitlines() if "http_reqs" in line).split(":")[1].split()[0]
                theirs.append(1e6 * done.cpu_s / float(sent))
    except MissingError as error:
        return [Row(measure, None, "µs", "≤ 0.25 ×", None, "k6", why=str(error))]
    print(mine, theirs, flush=True)
    ratio = median(mine) / median(theirs)
    return [Row(measure, round(median(mine), 1), "µs", "≤ 0.25 ×", ratio <= 0.25, "k6", round(median(theirs), 1), round(ratio, 3))]


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
    with nginx():
        told, _ = ours(Workload(base_url=URL, steps=GET, rate_per_s=LATE_RATE_PER_S, duration_s=8))
    late_s = told["lateness_s"]
    print(told, flush=True)
    ok = late_s["0.99"] <= 0.001 and told["ok"] == told["sent"]
    why = f"p50 {late_s['0.5'] * 1e3:.3f} ms, p99.9 {late_s['0.999'] * 1e3:.3f} ms, busy {told['busy']:.2f} of a core"
    return [Row(f"lateness of the schedule at {LATE_RATE_PER_S:,}/s, p99", round(late_s["0.99"] * 1e3, 3), "ms", "≤ 1", ok, why=why)]


def _idle(users: int, ramp_up_s: float, duration_s: float) -> Workload:
    return Workload(base_url=URL, steps=GET, users=users, think_s=(5, 15), ramp_up_s=ramp_up_s, duration_s=duration_s, timeout_s=30)
