"""Requests a second on one core: wrk, k6 and Locust beside us, round by round."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

from bench.load_rows.machine import FOLDER, URL, MissingError, nginx, ours, peer, ratio_row, run
from bench.table import Row
from perfloop.host.machine import steal_seconds
from perfloop.model.journey import Script, Step, Workload

ROUNDS, ROUNDS_MAX, WINDOW_S, USERS = 5, 8, 3.0, 50
STEAL_MAX = 0.02  # of the machine, by its host: a round with more is repeated, whatever it showed
SCRIPTS = Path(__file__).parent / "scripts"


def rows() -> list[Row]:
    names: dict[str, Callable[[], float]] = {
        "wrk": wrk,
        "declared": declared,
        "async def": lambda: scripted("get.py"),
        "k6": lambda: k6("get.js"),
        "locust": locust,
    }
    found, missing = rounds(names)
    table = []
    for measure, mine, theirs, least in (
        ("requests/s, declared GET, full recording, 50 connections", "declared", "wrk", 0.85),
        ("requests/s, async def journey with a check", "async def", "k6", 4.5),
        ("requests/s, async def journey with a check", "async def", "locust", 8.0),
    ):
        if theirs in missing or mine in missing:
            table.append(Row(measure, None, "1/s", f"≥ {least:g} ×", None, theirs, why=missing.get(theirs, missing.get(mine, ""))))
        else:
            table.append(ratio_row(measure, found[mine], found[theirs], least, theirs))
    return table


def four_steps() -> list[Row]:
    found, missing = rounds({"ours": lambda: scripted("buy.py"), "k6": lambda: k6("buy.js")})
    measure = "requests/s, journey of four steps: JSON, extraction, CSV, checks"
    if missing:
        return [Row(measure, None, "1/s", "≥ 4 ×", None, "k6", why="; ".join(missing.values()))]
    return [ratio_row(measure, found["ours"], found["k6"], 4.0, "k6")]


def rounds(names: dict[str, Callable[[], float]]) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Each in turn, several times; who cannot run says why."""
    found: dict[str, list[float]] = {name: [] for name in names}
    missing: dict[str, str] = {}
    with nginx():
        for _ in range(ROUNDS_MAX):
            round_: dict[str, float] = {}
            before, began_s = steal_seconds() or 0.0, time.monotonic()
            for name, once in names.items():
                try:
                    round_[name] = once()
                except MissingError as error:
                    missing[name] = str(error)
            steal = ((steal_seconds() or 0.0) - before) / (time.monotonic() - began_s)
            print({name: round(rate) for name, rate in round_.items()}, f"steal {steal:.3f}", flush=True)
            if steal <= STEAL_MAX:
                for name, rate in round_.items():
                    found[name].append(rate)
            if all(len(rates) >= ROUNDS for name, rates in found.items() if name not in missing):
                break
    for name, rates in found.items():
        if not rates:
            missing.setdefault(name, f"the host took more than {STEAL_MAX:.0%} of this machine in every round")
    return found, missing


def wrk() -> float:
    text = run([peer("wrk"), "-t1", f"-c{USERS}", f"-d{WINDOW_S:.0f}s", f"{URL}/"]).text
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])  # type: ignore[index]


def declared() -> float:
    return _rate(Workload(base_url=URL, steps=(Step(name="GET /", paths=("/",)),), users=USERS, duration_s=WINDOW_S))


def scripted(file: str) -> float:
    return _rate(Workload(base_url=URL, script=Script(file=str(SCRIPTS / file)), users=USERS, duration_s=WINDOW_S))


def _rate(workload: Workload) -> float:
    told, _ = ours(workload)
    if told["errors"]:
        raise MissingError(f"our own run had errors: {told['errors']} {told['first_errors']}")
    return float(told["ok"] / told["duration_s"])


def k6(file: str, **env: str) -> float:
    return k6_summary(file, **env)["http_reqs"]["rate"]


def k6_summary(file: str, **env: str) -> dict[str, dict[str, float]]:
    summary = FOLDER / "k6.json"
    words = {"URL": URL, "DURATION": f"{WINDOW_S:.0f}s", **env}
    run([peer("k6"), "run", "--quiet", "--no-usage-report", "--summary-export", str(summary), *(f"-e{k}={v}" for k, v in words.items()), str(SCRIPTS / file)])
    metrics: dict[str, dict[str, float]] = json.loads(summary.read_text())["metrics"]
    return metrics


def locust() -> float:
    command = [peer("locust"), "-f", str(SCRIPTS / "get_locust.py"), "--headless", "-u", str(USERS), "-r", str(USERS), "-t", f"{WINDOW_S:.0f}s"]
    text = run([*command, "--host", URL, "--only-summary", "--loglevel", "ERROR"]).text
    return float(re.search(r"RATE ([\d.]+)", text)[1])  # type: ignore[index]
