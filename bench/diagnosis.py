"""Is the first-ranked finding the problem that was switched on? And does a healthy service stay without findings?

    python -m bench.diagnosis [--runs 3] [--healthy 10] [--only missing-index,…] [--resume] [--cells N]

Each run starts the shop afresh from a seeded copy, runs ``perfloop check`` as a user would, and reads its result. Every run is one line of
``results/diagnosis-runs.jsonl``; with ``--resume`` runs that stand there are not repeated, and ``--cells`` bounds how many are made in one call.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.table import RESULTS, Row, finish
from perfloop_shop.problems import PROBLEMS
from perfloop_shop.stack import Stack

HEALTHY = "healthy"
LOG = RESULTS / "diagnosis-runs.jsonl"
TEMPLATES = Path(__file__).parent.parent / ".demo" / "template"


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
    """Make the runs that are missing, one after another, and print the table when there are enough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--healthy", type=int, default=10)
    parser.add_argument("--only", default="")
    parser.add_argument("--resume", action="store_true", help="keep the runs of an earlier call")
    parser.add_argument("--cells", type=int, default=10_000, help="runs to make in this call at most")
    chosen = parser.parse_args()
    problems = chosen.only.split(",") if chosen.only else list(PROBLEMS)
    RESULTS.mkdir(exist_ok=True)
    if not chosen.resume:
        LOG.write_text("")
    wanted = [(problem, run + 1) for run in range(max(chosen.runs, chosen.healthy)) for problem in [*problems, HEALTHY] if run < _runs(problem, chosen)]
    missing = [cell for cell in wanted if cell not in _done()]
    for problem, run in missing[: chosen.cells]:
        _cell(problem, run)
    if len(missing) > chosen.cells:
        print(f"{len(missing) - chosen.cells} runs are still missing", file=sys.stderr)
        return 75  # as sendmail's EX_TEMPFAIL: call again
    return finish("diagnosis", _rows(problems, chosen))


def _runs(problem: str, chosen: argparse.Namespace) -> int:
    return int(chosen.healthy if problem == HEALTHY else chosen.runs)


def _done() -> dict[tuple[str, int], list[tuple[str, str]]]:
    lines = [json.loads(line) for line in LOG.read_text().splitlines()] if LOG.exists() else []
    return {(line["problem"], line["run"]): [tuple(finding) for finding in line["findings"]] for line in lines}


def _cell(problem: str, run: int) -> None:
    findings, where, seconds = look([] if problem == HEALTHY else [problem], TEMPLATES)
    with LOG.open("a") as out:
        out.write(json.dumps({"problem": problem, "run": run, "findings": findings, "where": where, "seconds": round(seconds, 1)}) + "\n")
    print(f"{problem} {run}: {findings} {where} ({seconds:.0f} s)", file=sys.stderr, flush=True)


def _rows(problems: list[str], chosen: argparse.Namespace) -> list[Row]:
    done, rows, right = _done(), [], 0
    for problem in problems:
        found = [done[problem, run + 1] for run in range(chosen.runs)]
        firsts = [findings[0][0] if findings else "none" for findings in found]
        hits = firsts.count(problem)
        right += hits == chosen.runs
        why = "" if hits == chosen.runs else f"first was {firsts}"
        rows.append(Row(f"{problem} is ranked first", hits, f"of {chosen.runs}", f"{chosen.runs}", hits == chosen.runs, why=why))
    needed = -(-9 * len(problems) // 10)
    rows.append(Row("problems ranked first in every run", right, f"of {len(problems)}", f">= {needed}", right >= needed))
    healthy = [done[HEALTHY, run + 1] for run in range(chosen.healthy)]
    loud = [findings for findings in healthy if any(confidence != "possible" for _, confidence in findings)]
    rows.append(Row("healthy runs with a finding above possible", len(loud), f"of {chosen.healthy}", "0", not loud, why=str(loud) if loud else ""))
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
