"""``make bench-tuning``: PostgreSQL, Redis, nginx and gunicorn with their distribution's defaults, under a load that hurts, tuned by ``perfloop try --tune``.

Resumable: one server at a time, its answer is kept in ``results/tuning/``; ``--only NAME`` (again) makes one, ``--report`` writes the table of what
is there. What is offered to the race beside the product's own candidates would break the memory limit: it must never be applied.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.table import RESULTS, Row, finish  # noqa: E402
from bench.tuning_bench.grounds import GROUNDS, Ground  # noqa: E402
from perfloop.store.audit import AuditLog  # noqa: E402

KEPT = RESULTS / "tuning"
TRIALS_MAX = 20
GAIN_MIN = 0.30
#: 100 connections with so much each are beyond any machine that runs this
POISON = {"postgresql": ["--sql", "ALTER SYSTEM SET work_mem = '1000GB'; ALTER SYSTEM SET maintenance_work_mem = '1000GB'"]}
POISON_MARK = "1000GB"


def configuration(ground: Ground) -> str:
    """What a user would write."""
    paths = ", ".join(f'"{path}"' for path in ground.paths)
    return (
        f'[target]\nurl = "{ground.url}"\nenvironment = "sandbox"\nhealth_path = "{ground.paths[0]}"\n{ground.extra}\n[changes]\nallow = "safe"\n'
        f'[[journeys]]\nname = "all"\npaths = [{paths}]\n'
        f"[measure]\nrate_per_s = {ground.rate_per_s}\nwindow_s = 2\nwindows = 3\nwarmup_s = 2\npairs = 8\npairs_window_s = 2\nsettle_s = {ground.settle_s}\n"
        'throughput = false\nmetric = "mean_s"\n[limits]\ntime_max_s = 280\n'
    )


def tuned(name: str) -> dict[str, Any]:
    """One server, from its defaults to the answer of ``perfloop try``."""
    with tempfile.TemporaryDirectory(prefix=f"pl-tune-{name}-") as home:
        folder = Path(home)
        with GROUNDS[name](folder) as ground:
            (folder / "perfloop.toml").write_text(configuration(ground))
            env = {**os.environ, **ground.env, "PERFLOOP_STATE_DIR": str(folder / "state"), "NO_COLOR": "1"}
            started = time.monotonic()
            argv = [sys.executable, "-m", "perfloop", "try", "--tune", name, "--trials", str(TRIALS_MAX), *POISON.get(name, ()), "--json"]
            done = subprocess.run(argv, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, check=False)
            seconds = time.monotonic() - started
        answer = json.loads(done.stdout) if done.returncode in (0, 1) else {"candidates": [], "notes": [f"exit {done.returncode}"]}
        commands = [event.command for event in AuditLog(folder / "state").entries(10_000) if event.operation not in ("load_test", "rollback")]
    return {"server": name, "seconds": round(seconds, 1), "trials_max": TRIALS_MAX, "answer": answer, "applied": sorted(set(commands))}


def row(name: str, kept: dict[str, Any]) -> Row:
    """What was proved: the product of the ratios of everything that was kept, each proved on rounds of its own."""
    ratios = [one["verdict"]["ratio"] for one in kept["answer"]["candidates"] if one["decision"] == "kept"]
    best, worst = (math.prod(one[key] for one in ratios) for key in ("value", "high"))
    trials = next((note for note in kept["answer"]["notes"] if " trials of " in note), "trials unknown")
    names = ", ".join(one["name"] for one in kept["answer"]["candidates"] if one["decision"] == "kept") or "nothing was kept"
    why = f"{names}; at least {1 - worst:.0%} by the intervals; {trials}, {kept['seconds']:.0f} s"
    return Row(f"{name}: mean response time better, proved", round(100 * (1 - best), 1), "%", "≥ 30 %", 1 - best >= GAIN_MIN and worst < 1, why=why)


def table() -> list[Row]:
    """The rows of what was made."""
    found = {name: json.loads((KEPT / f"{name}.json").read_text()) for name in GROUNDS if (KEPT / f"{name}.json").exists()}
    rows = [row(name, kept) for name, kept in found.items()]
    good = sum(bool(one.ok) for one in rows)
    missing = [name for name in GROUNDS if name not in found]
    rows.append(Row("servers tuned by 30 % or more in 20 trials", good, "of 4", "≥ 3", good >= 3 if good >= 3 or not missing else None, why=", ".join(missing)))
    applied = [command for kept in found.values() for command in kept["applied"]]
    broken = [command for command in applied if POISON_MARK in command and command.startswith("ALTER")]
    refused = [one for kept in found.values() for one in kept["answer"]["candidates"] if POISON_MARK in one["name"]]
    why = f"{len(refused)} candidates that would break one were offered; {len(applied)} different changes were made"
    rows.append(Row("hard limits broken by what was applied", len(broken), "", "0", not broken if refused else None, why=why))
    return rows


def main() -> int:
    """Makes what is missing, then writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(GROUNDS))
    parser.add_argument("--report", action="store_true", help="only write the table")
    options = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    for name in () if options.report else [options.only] if options.only else GROUNDS:
        if options.only or not (KEPT / f"{name}.json").exists():
            (KEPT / f"{name}.json").write_text(json.dumps(tuned(name), indent=2, ensure_ascii=False) + "\n")
    return finish("tuning", table())


if __name__ == "__main__":
    sys.exit(main())
