"""Live campaigns on a tiny real service: A/A (nothing is changed), and slow-downs of 5 % and 10 % by real work in the service.

Resumable: one row a campaign is appended to ``results/proof/live.jsonl``, and a run goes on for ``SECONDS`` (default 200). The rounds are the
product's own (``loop.prove.rounds``: randomised pairs, the same arrivals in both arms, its sequential test), short so
that many campaigns fit. The metric is CPU seconds per request, named beforehand: the slow-down is work. (The first few A/A rows were judged by the
mean latency, which rounds of 0.4 s leave too noisy to settle anything in reasonable time; they are kept and counted.)
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.table import Row
from perfloop.context.discover import discover
from perfloop.host.http import fetch
from perfloop.host.processes import allowed_cpus, pin
from perfloop.loop.measure import Meter
from perfloop.loop.prove import Switch, rounds
from perfloop.model.config import Config, MeasureConfig, TargetConfig
from perfloop.model.journey import Step
from perfloop.model.target import Environment
from perfloop.model.verdict import Proof, VerdictStatus
from perfloop.validate.compare import compare
from perfloop.validate.question import Question

RECORDS = Path(__file__).parent.parent / "results" / "proof" / "live.jsonl"
WANTED = {"aa": 300, "slow5": 40, "slow10": 20}
FACTORS = {"aa": 1.0, "slow5": 1.05, "slow10": 1.10}
RATE_PER_S, PAIRS_MAX = 250.0, 60
#: seconds of a round; each row has its own. A/A needs fewer: its rounds end when 5 % is excluded
ROUNDS_S = {"aa": 0.3, "slow5": 0.5, "slow10": 0.5}
#: what the next campaign is, as long as it is wanted
ORDER = ("slow10", "slow5", "aa")
#: a change of 2 % is worth knowing of here: 5 % must be found
QUESTION = Question(metric="cpu_per_request", effect_min=0.02, pairs_max=PAIRS_MAX)
#: A/A rounds end when a difference of 5 % is excluded, else at this cap: looking longer only adds chances to claim
AA_QUESTION = Question(metric="cpu_per_request", effect_min=0.05, pairs_max=30)


@contextmanager
def service() -> Iterator[str]:
    """The service on a core of its own; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("service.py")), str(port)])
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        pin(process.pid, [allowed_cpus()[0]])
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def meter_for(url: str, round_s: float) -> Meter:
    """The product's meter on this service."""
    measure = MeasureConfig(rate_per_s=RATE_PER_S, settle_s=0, pairs_window_s=round_s)
    config = Config(target=TargetConfig(url=url, environment=Environment.SANDBOX), measure=measure)
    return Meter(config, discover(config, Path.cwd()), (Step(name="GET /work", paths=("/work",)),), (), time.monotonic() + 3600)


def drained(events: Generator[Any, None, Any]) -> Any:
    """The result of a generator of events."""
    while True:
        try:
            next(events)
        except StopIteration as stop:
            return stop.value


def campaign(meter: Meter, url: str, kind: str, seed: int) -> dict[str, Any]:
    """One proof from its first round to its verdict."""
    started = time.monotonic()
    question = AA_QUESTION if kind == "aa" else QUESTION
    switch = Switch(lambda: _set(url, FACTORS[kind]), lambda: _set(url, 1.0), lambda: None)
    _set(url, 1.0)
    pairs = drained(rounds(meter, switch, question, RATE_PER_S, seed, is_on=False))
    verdict = compare(pairs, question, Proof.TOGGLED)
    _set(url, 1.0)
    ratio = verdict.ratio
    return {
        "kind": kind,
        "metric": question.metric,
        "seed": seed,
        "status": verdict.status.value,
        "pairs": verdict.pairs,
        "round_s": ROUNDS_S[kind],
        "ratio": ratio.value if ratio else None,
        "low": ratio.low if ratio else None,
        "high": ratio.high if ratio else None,
        "detectable_ratio": verdict.detectable_ratio,
        "reason": verdict.reason,
        "seconds": round(time.monotonic() - started, 2),
        "cpus": os.cpu_count(),
    }


def _set(url: str, factor: float) -> None:
    fetch(f"{url}/factor/{factor}")


def records() -> list[dict[str, Any]]:
    """All campaigns so far."""
    return [json.loads(line) for line in RECORDS.read_text().splitlines()] if RECORDS.exists() else []


def _next_kind(done: dict[str, int], wanted: dict[str, int]) -> str | None:
    """The first kind that is not complete."""
    return next((kind for kind in ORDER if kind in wanted and done[kind] < wanted[kind]), None)


def rows(count: int | None = None) -> list[Row]:
    """Campaigns until the time is up, then the rows over all that are recorded."""
    wanted = {kind: min(number, count or number) for kind, number in WANTED.items()}
    until = time.monotonic() + float(os.environ.get("SECONDS_MAX", "200"))
    known = records()
    done = {kind: sum(record["kind"] == kind for record in known) for kind in wanted}
    if _next_kind(done, wanted):
        with service() as url:
            meters = {kind: meter_for(url, round_s) for kind, round_s in ROUNDS_S.items()}
            drained(meters["aa"].window("warm-up", RATE_PER_S, 1.0, seed=0))
            while time.monotonic() < until and (kind := _next_kind(done, wanted)):
                record = campaign(meters[kind], url, kind, seed=1000 * len(known) + 1)
                known.append(record)
                done[kind] += 1
                with RECORDS.open("a") as file:
                    file.write(json.dumps(record) + "\n")
    return _rows(known)


def _rows(known: list[dict[str, Any]]) -> list[Row]:
    of = {kind: [record for record in known if record["kind"] == kind] for kind in WANTED}
    aa, five, ten = of["aa"], of["slow5"], of["slow10"]
    claimed = [record for record in aa if record["status"] in (VerdictStatus.IMPROVED, VerdictStatus.REGRESSED)]
    excluded = [record for record in aa if record["low"] is not None and not record["low"] <= 1 <= record["high"]]
    found = [[record for record in kind if record["status"] == VerdictStatus.REGRESSED] for kind in (five, ten)]
    slowest = max((record["seconds"] for record in five), default=0.0)
    share = len(claimed) / len(aa) if aa else None
    missed = len(excluded) / len(aa) if aa else None
    return [
        Row(
            "live A/A: campaigns that claim a difference",
            _percent(share),
            "%",
            "<= 5, n >= 100",
            None if len(aa) < 100 else share <= 0.05,
            why=f"n = {len(aa)}",
        ),
        Row("live A/A: intervals that exclude 1", _percent(missed), "%", "<= 5", None if len(aa) < 100 else missed <= 0.05, why=f"n = {len(aa)}"),
        Row(
            "live 5 % slow-down by real work: found",
            len(found[0]),
            "",
            ">= 36 of 40",
            None if len(five) < 40 else len(found[0]) >= 36,
            why=f"n = {len(five)}, mean {_mean(five, 'pairs'):.1f} pairs, measured × {_mean(five, 'ratio'):.3f}",
        ),
        Row("live 5 % slow-down: slowest campaign", slowest, "s", "<= 180", slowest <= 180 if five else None, why=f"mean {_mean(five, 'seconds'):.1f} s"),
        Row("live 10 % slow-down: found, so undone", len(found[1]), "", "20 of 20", None if len(ten) < 20 else len(found[1]) >= 20, why=f"n = {len(ten)}"),
    ]


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 1)


def _mean(known: list[dict[str, Any]], key: str) -> float:
    values = [record[key] for record in known if record[key] is not None]
    return sum(values) / len(values) if values else 0.0
