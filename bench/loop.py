"""The whole loop, as a user meets it: a fresh clone, ``make demo``, the proof, kill -9, start-up time, installed size.

python -m bench.loop [--skip-demo]
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.table import Row, finish

ROOT = Path(__file__).parent.parent


def demo_rows() -> list[Row]:
    """Clone, run the demo, and read its result."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        started = time.monotonic()
        done = subprocess.run(["make", "demo"], cwd=clone, capture_output=True, text=True, timeout=900, check=False)
        seconds = time.monotonic() - started
        if done.returncode != 0:
            return [Row("make demo in a fresh clone", None, "s", "<= 300", False, why=f"exit {done.returncode}: {done.stderr[-600:]}")]
        run = json.loads(next((clone / ".demo").rglob("run.json")).read_text())
    rows = [
        Row("make demo in a fresh clone, to the delivery", round(seconds, 1), "s", "<= 300", seconds <= 300),
        Row("of which set-up and seeding", round(seconds - run["duration_s"], 1), "s", "<= 60", seconds - run["duration_s"] <= 60),
    ]
    kept = {tried["change"]["finding"]: tried for tried in run["tried"] if tried["decision"] == "kept"}
    for rule, factor in (("missing-index", 3.0), ("pool-exhausted", 1.0)):
        rows.append(_proof(rule, kept.get(rule), factor))
    undone = [tried["change"]["title"] for tried in run["tried"] if tried["decision"] == "undone"]
    rows.append(Row("candidates that did not help and were undone", len(undone), "", ">= 1", bool(undone), why="; ".join(undone)))
    return rows


def _proof(rule: str, tried: dict[str, Any] | None, factor: float) -> Row:
    if not tried:
        return Row(f"{rule}: before / after", None, "x", f">= {factor:g}, interval excludes 1", False, why="it was not kept")
    ratio = tried["verdict"]["ratio"]
    name = f"{rule}: {tried['verdict']['metric']}, before / after"
    value = 1 / ratio["value"]
    return Row(
        name,
        round(value, 2),
        "x",
        f">= {factor:g}, interval excludes 1",
        ratio["high"] < 1 and value >= factor,
        why=f"ratio {ratio['value']:.3f}, interval {ratio['low']:.3f}–{ratio['high']:.3f}, {tried['verdict']['pairs']} pairs, {tried['verdict']['proof']}",
    )


def kill_rows() -> list[Row]:
    """The crash tests measure by polling; they print the slowest start of an undo and the slowest way back."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/crash", "-q", "-s", "-k", "kill"], cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False
    )
    starts = [float(x) for x in re.findall(r"undo-started-s=([\d.]+)", done.stdout)]
    backs = [float(x) for x in re.findall(r"state-back-s=([\d.]+)", done.stdout)]
    if done.returncode != 0 or not backs:
        return [Row("kill -9 at every state of the journal", None, "s", "<= 30", False, why=done.stdout[-400:])]
    return [
        Row(
            "kill -9: slowest start of the undo", max(starts) if starts else None, "s", "<= 2", max(starts) <= 2 if starts else None, why=f"{len(starts)} kills"
        ),
        Row("kill -9: slowest way back to the old state", max(backs), "s", "<= 30", max(backs) <= 30, why=f"{len(backs)} kills"),
    ]


def version_row() -> Row:
    """Median of 15 cold processes, files cached."""
    times = []
    for _ in range(15):
        started = time.perf_counter()
        subprocess.run([str(Path(sys.executable).parent / "perfloop"), "--version"], check=True, capture_output=True)
        times.append((time.perf_counter() - started) * 1000)
    value = statistics.median(times)
    return Row("perfloop --version, median of 15", round(value, 1), "ms", "<= 100", value <= 100)


def size_row() -> Row:
    """What ``pip install .`` adds to an empty environment."""
    folder = Path(tempfile.mkdtemp())
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder / "v")], check=True)
        before = _size(folder)
        subprocess.run([str(folder / "v/bin/python"), "-m", "pip", "install", "-q", "-c", "constraints.txt", "."], cwd=ROOT, check=True, capture_output=True)
        value = (_size(folder) - before) / 1e6
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Row("core install without extras", round(value, 1), "MB", "<= 160", value <= 160)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def main() -> int:
    """All rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skip-demo", action="store_true")
    chosen = parser.parse_args()
    rows = [] if chosen.skip_demo else demo_rows()
    return finish("loop", [*rows, *kill_rows(), version_row(), size_row()])


if __name__ == "__main__":
    raise SystemExit(main())
