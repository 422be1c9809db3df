"""Experiments against truths: round trips from the delay slope, what computes and what waits by CPU taken away, and claims that are false.

    python -m bench.experiments [--rounds N] [--resume]

A real service on a real PostgreSQL, with real load: the experiment's own requests, and others beside it. Everything goes the product's way: the tap and the quota are
changes under the journal and the watchdog. Each measurement is one line of ``results/experiments-runs.jsonl``; with ``--resume`` those that stand there are kept.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.experiments_bench.desk import Desk, database, desk
from bench.table import RESULTS, Row, finish

LOG = RESULTS / "experiments-runs.jsonl"
TRIPS = (1, 5, 20, 50)
BESIDE_PER_S = 10.0
#: (kind, path, what a finding claims, what is true): trips per request, or share of the time that computes
SLOPES = tuple(("trips", f"/serial?n={n}", float(n), float(n)) for n in TRIPS)
FALSE = (
    ("false", "/parallel?n=8", 8.0, 1.0),
    ("false", "/parallel?n=12", 12.0, 1.0),
    ("false", "/pipelined?n=20", 20.0, 1.0),
    ("false", "/after?n=20", 20.0, 0.0),
    ("path", "/after?n=5", 0.0, 0.0),
    ("path", "/serial?n=5", 0.0, 5.0),
)
CPU = (
    ("cpu", "/compute?ms=20", 0.95, 1.0),
    ("cpu", "/compute?ms=60", 0.95, 1.0),
    ("cpu-false", "/wait?ms=20", 0.9, 0.0),
    ("cpu-false", "/serial?n=20", 0.9, None),
)


def main() -> int:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--resume", action="store_true")
    chosen = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    if not chosen.resume:
        LOG.write_text("")
    with tempfile.TemporaryDirectory(prefix="pl-exp-") as folder:
        os.environ["PERFLOOP_STATE_DIR"] = str(Path(folder) / "state")
        with database() as server:
            for number in range(1, chosen.rounds + 1):
                for part, cases, pinned in (("slope", (*SLOPES, *FALSE), True), ("competitor", CPU, True), ("quota", CPU, False)):
                    missing = [case for case in cases if (number, part, case[1], case[0]) not in _done()]
                    if missing:
                        random.Random(number).shuffle(missing)
                        with desk(Path(folder) / f"{part}-{number}", server, pinned) as service:
                            _measure(service, number, part, missing)
    return finish("experiments", rows([json.loads(line) for line in LOG.read_text().splitlines()]))


def _measure(service: Desk, number: int, part: str, cases: list[Any]) -> None:
    from perfloop.loop import prepare
    from perfloop.loop.confirm import confirm
    from perfloop.loop.experiments import tools_for
    from perfloop.loop.look import access
    from perfloop.loop.opening import open_session
    from perfloop.loop.tapping import Taps
    from perfloop.model.evidence import Evidence
    from perfloop.model.requests import CheckRequest

    session = open_session(CheckRequest(config=str(service.config), no_input=True), "check", service.folder)
    for _ in prepare.understand(session):
        pass
    session.put(rate_per_s=BESIDE_PER_S)
    with Taps(session) as taps, _beside(service.url) if part == "slope" else _nothing():
        tools = tools_for(session, access(session), Evidence(target=session.meter.target), taps)
        for kind, path, claim, truth in cases:
            began = time.monotonic()
            result = confirm(_claim(part, path, claim), tools)
            value = result.estimate.value if result.estimate else None
            line = {"round": number, "part": part, "case": path, "kind": kind, "claim": claim, "truth": truth, "value": value, "supports": result.supports}
            line |= {"note": result.note, "seconds": round(time.monotonic() - began, 1), "busy_beside": part == "slope"}
            with LOG.open("a") as out:
                out.write(json.dumps(line) + "\n")
            print(f"{number} {part} {path}: claimed {claim:g}, {result.supports}, {result.note}", file=sys.stderr, flush=True)


def _claim(part: str, path: str, claim: float) -> Any:
    from perfloop.model.finding import Confidence, Experiment, Finding

    if part == "slope":
        experiment = Experiment(
            kind="delay-slope", params={"subject": path, "step": f"GET {path}", "peer": "postgresql", "trips": claim}, refutes="it does not grow"
        )
    else:
        length_s = int(path.partition("ms=")[2] or 10) / 1000
        experiment = Experiment(kind="cpu-less", params={"subject": path, "step": f"GET {path}", "cpu_s": length_s, "share": claim}, refutes="it is as fast")
    return Finding(rule="bench", confidence=Confidence.LIKELY, title=path, experiment=experiment)


@contextmanager
def _beside(url: str) -> Iterator[None]:
    """Other users: ten requests a second at random moments, two round trips each."""
    ended = threading.Event()

    def send() -> None:
        host = url.removeprefix("http://")
        while not ended.wait(random.expovariate(BESIDE_PER_S)):
            connection = http.client.HTTPConnection(host, timeout=10)
            try:
                connection.request("GET", "/serial?n=2")
                connection.getresponse().read()
            except OSError:
                pass  # while it restarts
            finally:
                connection.close()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _done() -> set[tuple[int, str, str, str]]:
    lines = [json.loads(line) for line in LOG.read_text().splitlines()] if LOG.exists() else []
    return {(line["round"], line["part"], line["case"], line["kind"]) for line in lines}


def rows(lines: list[dict[str, Any]]) -> list[Row]:
    """The table of the issue."""
    found = []
    for trips in TRIPS:
        seen = [line["value"] for line in lines if line["kind"] == "trips" and line["truth"] == trips]
        known = [value for value in seen if value is not None]
        worst = max((abs(value / trips - 1) for value in known), default=None)
        why = f"{', '.join('–' if value is None else f'{value:.2f}' for value in seen)} of {trips}"
        ok = None if worst is None else worst <= 0.1 and len(known) == len(seen)
        found.append(
            Row(f"round trips from the delay slope, truth {trips}: worst error", None if worst is None else round(100 * worst, 1), "%", "<= 10", ok, why=why)
        )
    confirmed = [line for line in lines if line["supports"] is True]
    wrong = [line for line in confirmed if line["kind"] in ("false", "path", "cpu-false")]
    claims = [line for line in lines if line["kind"] in ("false", "cpu-false")]
    share = 100 * len(wrong) / max(1, len(confirmed))
    why = f"{len(wrong)} of {len(confirmed)} confirmed; {len(claims)} false claims were tried, {sum(line['supports'] is False for line in claims)} of them ruled out"
    found.append(Row("wrongly confirmed, of all confirmed", round(share, 1), "%", "<= 5", share <= 5 if confirmed else None, why=why))
    for name, kind, wanted in (("true round trips confirmed", "trips", True), ("not on the critical path, ruled out", "off", False)):
        part = [line for line in lines if line["kind"] == kind or (kind == "off" and line["truth"] == 0.0 and line["part"] == "slope")]
        good = sum(line["supports"] is wanted for line in part)
        found.append(Row(name, good, f"of {len(part)}", ">= 90%", good >= 0.9 * len(part) if part else None))
    for part in ("competitor", "quota"):
        for kind, wanted, name in (("cpu", True, "what computes, confirmed"), ("cpu-false", False, "what waits, ruled out")):
            of = [line for line in lines if line["part"] == part and line["kind"] == kind and line["case"] != "/serial?n=20"]
            good = sum(line["supports"] is wanted for line in of)
            why = "; ".join(line["note"] for line in of if line["supports"] is not wanted)
            found.append(Row(f"{name} by a {part}", good, f"of {len(of)}", ">= 90%", good >= 0.9 * len(of) if of else None, why=why))
    longest = max((line["seconds"] for line in lines), default=None)
    found.append(Row("longest experiment", longest, "s", "<= 15", None if longest is None else longest <= 15))
    return found


if __name__ == "__main__":
    raise SystemExit(main())
