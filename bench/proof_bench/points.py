"""Change points in histories: false ones in series without any, and planted 5 % steps, beside Apache Otava 0.8.0 in a private venv.

Otava's threshold is moved until it is wrong as seldom as we are (its power is then interpolated between the two thresholds around our
false rate); at its defaults its power is bought with false alarms.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from bench.table import Row
from perfloop.stats.changepoints import change_points

FOLDER = Path(__file__).parent.parent.parent / ".bench" / "otava"
SERIES, LENGTH, DEVIATION, STEP, NEAR = 1000, 100, 0.05, 0.05, 10
MEMORIES = (0.0, 0.3, 0.5)
DEFAULT = 1e-3
THRESHOLDS = (1e-2, DEFAULT, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 1e-7, 1e-8)
SEED = 20261124

_OTAVA = """
import json, sys
from otava.analysis import compute_change_points
asked = json.load(open(sys.argv[1]))
answer = {name: {str(p): [[int(c.index) for c in compute_change_points(list(row), window_len=50, max_pvalue=p, min_magnitude=0.0)[0]] for row in rows]
                 for p in asked["thresholds"]} for name, rows in asked["series"].items()}
json.dump(answer, open(sys.argv[2], "w"))
"""


def noise(count: int, memory: float, rng: np.random.Generator) -> np.ndarray:
    """First-order autoregressive series around 0."""
    news = rng.standard_normal((count, LENGTH))
    made = news.copy()
    for index in range(1, LENGTH):
        made[:, index] = memory * made[:, index - 1] + np.sqrt(1 - memory**2) * news[:, index]
    return DEVIATION * made


def otava(series: dict[str, np.ndarray]) -> dict[str, dict[str, list[list[int]]]]:
    """Its change points at each threshold."""
    if not (FOLDER / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
        subprocess.run([str(FOLDER / "bin" / "pip"), "install", "-q", "apache-otava==0.8.0"], check=True, capture_output=True)
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder) / "asked.json", Path(folder) / "answer.json"
        asked.write_text(json.dumps({"series": {name: rows.tolist() for name, rows in series.items()}, "thresholds": THRESHOLDS}))
        subprocess.run([str(FOLDER / "bin" / "python"), "-c", _OTAVA, str(asked), str(answer)], check=True)
        found: dict[str, dict[str, list[list[int]]]] = json.loads(answer.read_text())
    return found


def _false(found: list[list[int]]) -> float:
    return float(np.mean([bool(row) for row in found]))


def _power(found: list[list[int]], truth: np.ndarray) -> float:
    return float(np.mean([any(abs(at - real) <= NEAR for at in row) for row, real in zip(found, truth, strict=True)]))


def rows(count: int = SERIES) -> list[Row]:
    """False series and power, ours and theirs, on the very same series."""
    made: list[Row] = []
    for number, memory in enumerate(MEMORIES):
        rng = np.random.default_rng([SEED, number])
        plain, planted = np.exp(noise(count, memory, rng)), np.exp(noise(count, memory, rng))
        truth = rng.integers(20, 81, count)
        for row, at in zip(planted, truth, strict=True):
            row[at:] *= 1 + STEP
        ours_plain, ours_planted = ([[point.index for point in change_points(list(row))] for row in table] for table in (plain, planted))
        wrong, power = _false(ours_plain), _power(ours_planted, truth)
        try:
            theirs = otava({"plain": plain, "planted": planted})
        except (OSError, subprocess.CalledProcessError) as error:
            why = f"Otava could not be installed or run: {error}"
            made.append(Row(f"change points, AR(1) {memory:g}: false series", round(100 * wrong, 1), "%", "<= 5", wrong <= 0.05, why=f"n = {count}; {why}"))
            made.append(Row(f"change points, AR(1) {memory:g}: 5 % step found", round(100 * power, 1), "%", ">= Otava", None, why=why))
            continue
        curve = sorted((_false(theirs["plain"][str(p)]), _power(theirs["planted"][str(p)], truth)) for p in THRESHOLDS)
        equal = float(np.interp(wrong, [x for x, _ in curve], [y for _, y in curve]))
        default = _false(theirs["plain"][str(DEFAULT)])
        made += [
            Row(
                f"change points, AR(1) {memory:g}: false series",
                round(100 * wrong, 1),
                "%",
                "<= 5",
                wrong <= 0.05,
                "Apache Otava 0.8.0, defaults",
                round(100 * default, 1),
                round(wrong / default, 3) if default else None,
                f"n = {count} of {LENGTH} values",
            ),
            Row(
                f"change points, AR(1) {memory:g}: 5 % step found within {NEAR}",
                round(100 * power, 1),
                "%",
                ">= Otava at equal false rate",
                power >= equal,
                f"Apache Otava 0.8.0 at {100 * wrong:.1f} % false",
                round(100 * equal, 1),
                round(power / equal, 2) if equal else None,
                f"deviation {DEVIATION:.0%}, n = {count}",
            ),
        ]
    return made
