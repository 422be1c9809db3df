"""What looking costs: the agent inside a service per query.

    python -m bench.observing [--rounds 7]

Agent: the same queries in processes of their own, plain, with our agent, and with OpenTelemetry's instrumentation (in .bench/otel), one after another in
each round; what one costs is the median over rounds of the difference to the plain one of the same round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from bench.table import Row, finish
from perfloop.loop.running import environment

HERE = Path(__file__).parent
SCRIPT = HERE / "observing_parts" / "queries.py"
VENV = HERE.parent / ".bench" / "otel"
PACKAGES = ("opentelemetry-sdk", "opentelemetry-instrumentation-sqlite3")  # pip picks versions that fit each other


def main() -> int:
    """The parts that were asked for; rows of the others stay as they were measured last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    return finish("observing", [*agent(parser.parse_args().rounds), *missing()])


def missing() -> list[Row]:
    """What has no measurement yet."""
    why = "not built yet"
    return [
        Row("throughput with all probes at their defaults, paired with none", None, "share", "≥ 0.98", None, why=why),
        Row("from URL and process to a ranked diagnosis, without experiments", None, "s", "≤ 20", None, why=why),
    ]


def agent(rounds: int) -> list[Row]:
    """Microseconds that a query takes more, ours and OpenTelemetry's."""
    install()
    ours, theirs = [], []
    for _ in range(rounds):
        plain = timed("plain")
        ours.append((timed("agent") - plain) / 1000)
        theirs.append((timed("otel") - plain) / 1000)
        print(f"plain {plain / 1000:.2f} µs, agent +{ours[-1]:.2f}, OpenTelemetry +{theirs[-1]:.1f}", file=sys.stderr)
    own, other = statistics.median(ours), statistics.median(theirs)
    spread = f"rounds {min(ours):.2f} to {max(ours):.2f}"
    return [Row("the agent inside a service takes, a query", round(own, 2), "µs", "≤ 2", own <= 2, "OpenTelemetry's sqlite3 instrumentation, spans dropped", round(other, 1), round(own / other, 4), why=spread)]  # fmt: skip


def timed(mode: str) -> float:
    """Nanoseconds of one query in a process of its own."""
    python = VENV / "bin" / "python" if mode == "otel" else Path(sys.executable)
    env = {**os.environ, **(environment("") if mode == "agent" else {})}
    done = subprocess.run([str(python), str(SCRIPT), mode], env=env, capture_output=True, text=True, timeout=120, check=True)
    return float(done.stdout)


def install() -> None:
    """OpenTelemetry in a folder of its own: it is no dependency of perfloop."""
    if not (VENV / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        subprocess.run([str(VENV / "bin" / "pip"), "-q", "--disable-pip-version-check", "install", *PACKAGES], check=True)
        (VENV / "ready").touch()


if __name__ == "__main__":
    sys.exit(main())
