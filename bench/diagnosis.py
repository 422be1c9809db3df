"""Is the first-ranked finding the problem that was switched on? And does a healthy service stay without findings?

    python -m bench.diagnosis [--runs 3] [--healthy 10] [--only missing-index,…]

Each run starts the shop afresh from a seeded copy, runs ``perfloop check`` as a user would, and reads run.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.table import RESULTS, Row, finish
from perfloop_shop.problems import PROBLEMS
from perfloop_shop.stack import Stack


def look(problems: list[str], template: Path) -> tuple[list[tuple[str, str]], str, float]:
    """(rule, confidence) of the findings in rank order, what the first one says, and the seconds it took."""
    with tempfile.TemporaryDirectory() as folder, Stack(problems, Path(folder) / "shop", template) as shop:
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "perfloop", "check", "--config", str(shop.config_path), "--json"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        seconds = time.monotonic() - started
        if done.returncode not in (0, 1):
            raise SystemExit(f"check failed with exit {done.returncode}:\n{done.stderr[-2000:]}")
        findings = json.loads(done.stdout)["diagnosis"]["findings"]
    place = findings[0]["place"] if findings else {}
    where = f"{Path(place.get('file', '')).name}:{place.get('line', 0)}" if place.get("file") else place.get("query", "")[:60] or place.get("peer", "")
    return [(f["rule"], f["confidence"]) for f in findings], where, seconds


def main() -> int:
    """Run all cells, one after another, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--healthy", type=int, default=10)
    parser.add_argument("--only", default="")
    chosen = parser.parse_args()
    problems = chosen.only.split(",") if chosen.only else list(PROBLEMS)
    folder = Path(tempfile.mkdtemp())
    log = RESULTS / "diagnosis-runs.jsonl"
    RESULTS.mkdir(exist_ok=True)
    log.write_text("")
    rows: list[Row] = []
    right = 0
    try:
        for problem in problems:
            firsts = [record[0] for record in _cells(problem, chosen.runs, folder, log)]
            hits = sum(first == problem for first in firsts)
            right += hits == chosen.runs
            rows.append(
                Row(
                    f"{problem} is ranked first",
                    hits,
                    f"of {chosen.runs}",
                    f"{chosen.runs}",
                    hits == chosen.runs,
                    why="" if hits == chosen.runs else f"first was {firsts}",
                )
            )
        needed = -(-9 * len(problems) // 10)
        rows.append(Row("problems ranked first in every run", right, f"of {len(problems)}", f">= {needed}", right >= needed))
        loud = [record for record in _cells("", chosen.healthy, folder, log) if any(confidence != "possible" for _, confidence in record[1])]
        rows.append(
            Row("healthy runs with a finding above possible", len(loud), f"of {chosen.healthy}", "0", not loud, why=str([r[1] for r in loud]) if loud else "")
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return finish("diagnosis", rows)


def _cells(problem: str, count: int, folder: Path, log: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for number in range(count):
        findings, where, seconds = look([problem] if problem else [], folder / "template")
        first = findings[0][0] if findings else "none"
        with log.open("a") as out:
            out.write(
                json.dumps({"problem": problem or "healthy", "run": number + 1, "findings": findings, "where": where, "seconds": round(seconds, 1)}) + "\n"
            )
        print(f"{problem or 'healthy'} {number + 1}/{count}: {findings} {where} ({seconds:.0f} s)", file=sys.stderr, flush=True)
        yield first, findings


if __name__ == "__main__":
    raise SystemExit(main())
