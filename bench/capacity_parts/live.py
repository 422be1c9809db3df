"""Rows that need real services: predictions from at most 40 % of the load against what closed load then reaches, once more with the sweep going twice as far.

One cell is one service and one sweep, one line of ``results/capacity-live.jsonl``; cells that stand there are not repeated.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.capacity_parts.services import HELD_OUT, NAMES, RIGHT, running
from bench.table import RESULTS, Row

LOG = RESULTS / "capacity-live.jsonl"
SWEEPS = (1, 2)
ROUNDS = 2
MEMORY_START_BYTES = 2**30
CELL_MAX_S = 600
ROOTS = (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))


def cells() -> list[tuple[str, int]]:
    """All cells, in the order in which they are measured."""
    return [*((name, 1) for name in NAMES), ("right-size", 1), *((name, 1) for name in HELD_OUT), *((name, 2) for name in NAMES)]


def done() -> dict[tuple[str, int], dict[str, Any]]:
    """What was measured, by cell; the last one counts."""
    lines = [json.loads(line) for line in LOG.read_text().splitlines()] if LOG.exists() else []
    return {(line["service"], line["sweep"]): line for line in lines}


def measure(name: str, sweep: int) -> None:
    """One cell: starts the service, asks for its capacity as a user would, and keeps what matters of the answer."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        folder.chmod(0o755)
        with running("shop" if name == "right-size" else name, folder, sweep) as service:
            argv = ["--growth", "10x", "--rounds", str(ROUNDS)]
            if name == "right-size":
                give_limit(service.pid)
                argv += ["--gentle", "--right-size", "--now-per-s", "20"]
            answer = _asked(service.config, folder, argv)
    plan = answer["capacity_plan"]
    law = answer["capacity"] or {}
    first = next((item for item in plan["demands"] if item["saturates_at_per_s"]), None)
    line = {
        "service": name,
        "sweep": sweep,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "resource": first["resource"] if first else "",
        "kind": first["kind"] if first else "",
        "by_law_per_s": first["saturates_at_per_s"] if first else None,
        "predicted_per_s": plan["predicted_per_s"],
        "predicted_note": plan["predicted_note"],
        "bursts": plan["bursts"],
        "gentle_max_per_s": plan["gentle_max_per_s"],
        "saturated_per_s": plan["saturated_per_s"],
        "rate_slo_per_s": plan["rate_slo"]["value"] if plan["rate_slo"] else None,
        "slo": plan["slo"],
        "peak": law.get("peak_concurrency"),
        "law_note": law.get("note"),
        "closed": [(point["users"], point["round"], point["achieved_per_s"]) for point in plan["closed"]],
        "right_size": plan["right_size"],
        "unknown": plan["unknown"],
        "notes": answer["notes"],
    }
    RESULTS.mkdir(exist_ok=True)
    with LOG.open("a") as log:
        log.write(json.dumps(line, ensure_ascii=False) + "\n")


def _asked(config: Path, folder: Path, argv: list[str]) -> dict[str, Any]:
    cpus = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "perfloop", "capacity", "--config", str(config), "--json", *argv]
    if len(cpus) > 1:
        command = ["taskset", "-c", ",".join(map(str, cpus[1:])), *command]  # the service has the first core for itself
    done_ = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=CELL_MAX_S, check=False)
    if done_.returncode not in (0, 1):
        raise SystemExit(f"capacity failed with exit {done_.returncode}:\n{done_.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done_.stdout)
    return answer


def give_limit(pid: int, cores: float = 1.0) -> None:
    """Puts a process into control groups of its own with a generous quota and memory: the over-provisioned start. Removed when its processes have ended."""
    limits = (("cpu.cfs_quota_us", str(int(cores * 100_000))), ("cpu.max", f"{int(cores * 100_000)} 100000"),
              ("memory.limit_in_bytes", str(MEMORY_START_BYTES)), ("memory.max", str(MEMORY_START_BYTES)))  # fmt: skip
    given = 0
    for root in ROOTS:
        if not (root / "cgroup.procs").exists():
            continue
        group = root / f"perfloop-bench-{pid}"
        group.mkdir(exist_ok=True)
        for file, value in limits:
            if (group / file).exists():
                (group / file).write_text(value)
                given += 1
        (group / "cgroup.procs").write_text(str(pid))
    if given < 2:
        raise SystemExit("control groups for CPU and memory are not mounted")


def remove_groups() -> None:
    """The groups of ended services."""
    for group in (group for root in ROOTS for group in root.glob("perfloop-bench-*")):
        if not (group / "cgroup.procs").read_text().strip():
            group.rmdir()


def rows() -> list[Row]:
    """The rows of all cells; those that are missing are told as not measured."""
    known, found = done(), []
    for name in NAMES:
        first, second = (known.get((name, sweep)) for sweep in SWEEPS)
        found.append(_prediction(name, first))
        found.append(_moved(name, first, second))
    found += [_prediction(f"held out, {name}", known.get((name, 1)), name) for name in HELD_OUT]
    found.append(_right_size(known.get(("right-size", 1))))
    return found


def _prediction(title: str, cell: dict[str, Any] | None, name: str = "") -> Row:
    name = name or title
    measure_, needed = f"{title}: saturation predicted from ≤ 40 % of the load, off by", "≤ 10 %, right resource"
    if cell is None:
        return Row(measure_, None, "%", needed, None, why="not measured in this run")
    predicted, reached = cell["predicted_per_s"], cell["saturated_per_s"]
    if predicted is None or reached is None:
        return Row(measure_, None, "%", needed, False, why="no resource's end was predicted")
    off = 100 * (predicted["value"] / reached["value"] - 1)
    right = cell["kind"] in RIGHT[name] and not cell["predicted_note"]
    gentle = 100 * cell["gentle_max_per_s"] / reached["value"]
    why = f"{cell['resource']}: predicted {predicted['value']:.0f} ({predicted['low']:.0f} to {predicted['high']:.0f}), reached {reached['value']:.0f}/s; sent {gentle:.0f} % on average at most"
    why += f", in bursts of up to {max(size for size, _ in cell['bursts'])}" if cell["bursts"] else ""
    why += f"; by the utilisation law alone {cell['by_law_per_s']['value']:.0f}" if cell["by_law_per_s"] else ""
    return Row(measure_, round(off, 1), "%", needed, bool(abs(off) <= 10 and right and gentle <= 45), why=why)


def _moved(name: str, first: dict[str, Any] | None, second: dict[str, Any] | None) -> Row:
    measure_ = f"{name}: highest rate under the SLO, the sweep going twice as far, moved by"
    if first is None or second is None:
        return Row(measure_, None, "%", "≤ 10", None, why="not measured in this run")
    rates = [cell["rate_slo_per_s"] for cell in (first, second)]
    if not all(rates):
        return Row(measure_, None, "%", "≤ 10", False, why="no rate kept the SLO")
    moved = 100 * (rates[1] / rates[0] - 1)
    return Row(
        measure_,
        round(moved, 1),
        "%",
        "≤ 10",
        bool(abs(moved) <= 10),
        why=f"{rates[0]:.1f} and {rates[1]:.1f}/s under {first['slo']}; peak of the law: {_peak(first)} and {_peak(second)} users",
    )


def _peak(cell: dict[str, Any]) -> str:
    return f"{cell['peak']:.0f}" if cell["peak"] else "none"


def _right_size(cell: dict[str, Any] | None) -> Row:
    measure_, needed = "shop: proposed limits run under load, CPU saved", "≥ 30 %, SLO kept"
    found = cell["right_size"] if cell else None
    if found is None:
        return Row(measure_, None, "%", needed, None, why="not measured in this run" if cell is None else "; ".join(cell["notes"])[:200])
    why = f"{found['cpu_cores_before']:g} → {found['cpu_cores']:g} cores, {found['memory_before_bytes'] >> 20} → {found['memory_bytes'] >> 20} MiB, p95 {1000 * (found['p95_s'] or 0):.0f} ms; {found['note']}"
    return Row(measure_, round(100 * found["saved_share"], 1), "%", needed, bool(found["ok"] and found["memory_ok"] and found["saved_share"] >= 0.3), why=why)
