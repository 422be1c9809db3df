"""Three services with injected faults: is the first-ranked cause right, and its file and line? And is a healthy service, or a decoy, left in peace?

    python -m bench.faults [--only WORD,…] [--resume] [--cells N] [--keep-evidence FOLDER]

One cell is one start of a service with a fault (or two, or a decoy, or none), judged by one ``perfloop check``. Each cell is one line of
``results/faults-runs.jsonl``; with ``--resume`` cells that stand there are not repeated, and ``--cells`` bounds how many are run in one call.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.faults_cells import CELLS, Cell
from bench.faults_ground import SERVICES, Desk, Ground, install
from bench.table import RESULTS, Row, finish
from perfloop_shop.stack import default_cpus

LOG = RESULTS / "faults-runs.jsonl"
STRONG = ("confirmed", "likely")
CHECK_MAX_S = 200


def main() -> int:
    """Run the cells that are missing, one after another, and print the table when there are no more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cells whose name contains one of these words")
    parser.add_argument("--resume", action="store_true", help="keep the cells of an earlier call")
    parser.add_argument("--cells", type=int, default=10_000, help="cells to run in this call at most")
    parser.add_argument("--table", action="store_true", help="print the table of what there is, though cells are missing")
    parser.add_argument("--keep-evidence", default="", help="folder for the evidence of every cell")
    chosen = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    if not chosen.resume:
        LOG.write_text("")
    words = [word for word in chosen.only.split(",") if word]
    wanted = [cell for cell in CELLS if not words or any(word in cell.name for word in words)]
    done = _done()
    missing = [cell for cell in wanted if cell.name not in done]
    random.Random(7).shuffle(missing)  # so that a part of them tells about all
    install()
    signal.signal(signal.SIGTERM, _stop)
    if missing and chosen.cells:
        with Ground(default_cpus()) as ground:
            for cell in missing[: chosen.cells]:
                line = run(cell, ground, chosen.keep_evidence)
                with LOG.open("a") as out:
                    out.write(json.dumps(line) + "\n")
                print(_said(line), file=sys.stderr, flush=True)
    if len(missing) > chosen.cells:
        print(f"{len(missing) - chosen.cells} cells are still missing", file=sys.stderr)
        if not chosen.table:
            return 75  # call again
    return finish("faults", rows([line for line in _done().values() if any(cell.name == line["cell"] for cell in wanted)]))


def _stop(number: int, _: object) -> None:
    """As Ctrl-C: the servers, the desk, the neighbours and the group of this call are ended on the way out."""
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def run(cell: Cell, ground: Ground, keep: str = "") -> dict[str, Any]:
    """One cell: start, check, read the result."""
    with (
        ground.desk(cell.service, cell.faults, workers=cell.workers, threads=cell.threads, pinned=cell.pinned) as desk,
        cell.beside(desk, ground),
        tempfile.TemporaryDirectory() as folder,
    ):
        config = Path(folder) / "perfloop.toml"
        config.write_text(_config(cell, desk))
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "perfloop", "check", "--config", str(config), "--json"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=CHECK_MAX_S,
            check=False,
        )
        seconds = time.monotonic() - started
        if done.returncode not in (0, 1):
            return {"cell": cell.name, "kind": cell.kind, "expect": cell.expect, "error": done.stderr[-1500:], "findings": [], "seconds": seconds}
        result = json.loads(done.stdout)
        if keep:
            Path(keep).mkdir(parents=True, exist_ok=True)
            shutil.copy(next(Path(folder).glob(".perfloop/runs/*/evidence-1.json")), Path(keep) / f"{cell.name}.json")
    findings = [
        {"rule": f["rule"], "confidence": f["confidence"], "file": Path(f["place"]["file"]).name, "line": f["place"]["line"], "title": f["title"]}
        for f in result["diagnosis"]["findings"]
    ]
    experiments = [{"kind": e["kind"], "rule": e["rule"], "supports": e["supports"], "note": e["note"]} for e in result["experiments"]]
    line: dict[str, Any] = {
        "cell": cell.name,
        "kind": cell.kind,
        "expect": cell.expect,
        "findings": findings,
        "experiments": experiments,
        "seconds": round(seconds, 1),
    }
    line["phases"] = {note["phase"]: note["seconds"] for note in result.get("phases", [])}
    line["right"] = _right(cell, findings)
    line["place"] = _place(cell, findings)
    return line


def _right(cell: Cell, findings: list[dict[str, Any]]) -> bool:
    strong = [f["rule"] for f in findings if f["confidence"] in STRONG]
    if cell.kind == "fault":
        return bool(findings) and findings[0]["rule"] in cell.expect
    if cell.kind == "double":
        return all(rule in strong for rule in cell.expect)
    if cell.kind == "decoy":
        return not any(rule in cell.wrong for rule in strong)
    return not strong


def _place(cell: Cell, findings: list[dict[str, Any]]) -> bool | None:
    """Does the finding point at a line marked for its rule? None where the fault has no line, or was not found."""
    found = next((f for f in findings if f["rule"] in cell.expect), None)
    marked = {(file.name, number) for rule in cell.expect for file, number in marks(rule)}
    if cell.kind != "fault" or found is None or not marked or found["rule"] == "missing-index":
        return None
    return (found["file"], found["line"]) in marked


def marks(rule: str) -> list[tuple[Path, int]]:
    """Lines marked ``# here: RULE`` in the services; of a statement that goes over several lines, all of them."""
    found = []
    for file in SERVICES.glob("*.py"):
        text = file.read_text()
        simple = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt) and not hasattr(node, "body")]
        for number, line in enumerate(text.splitlines(), 1):
            marked = re.search(r"# here: ([\w, -]+)", line)
            if marked and rule in [part.strip() for part in marked[1].split(",")]:
                around = next((node for node in simple if node.end_lineno == number), None)
                found += [(file, one) for one in range(around.lineno if around else number, number + 1)]
    return found


def _config(cell: Cell, desk: Desk) -> str:
    lines = ["[target]", f'url = "{desk.url}"', 'environment = "sandbox"', f'source_root = "{SERVICES}"', 'health_path = "/health"']
    lines += [
        f'postgres = "file:{desk.dsn_file}"',
        "[measure]",
        f"rate_per_s = {cell.rate_per_s}",
        "window_s = 1.5",
        "windows = 3",
        "warmup_s = 1.0",
        "throughput = false",
    ]
    for path, weight in cell.journeys:
        lines += ["[[journeys]]", f'path = "{path}"', f"weight = {weight}"]
    return "\n".join(lines) + "\n"


def _done() -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in LOG.read_text().splitlines()] if LOG.exists() else []
    return {line["cell"]: line for line in lines}


def _said(line: dict[str, Any]) -> str:
    found = ", ".join(f"{f['rule']} ({f['confidence']}) {f['file']}:{f['line']}" for f in line["findings"][:4]) or line.get("error", "nothing")[-300:]
    return f"{'ok ' if line.get('right') else 'NO '} {'' if line.get('place') is None else 'line' if line['place'] else 'WRONG LINE'} {line['cell']}: {found} ({line['seconds']:.0f} s)"


def rows(lines: list[dict[str, Any]]) -> list[Row]:
    """The table of the issue."""
    found = []
    by_kind = {kind: [line for line in lines if line["kind"] == kind] for kind in ("fault", "double", "decoy", "healthy")}
    faults = by_kind["fault"]
    if faults:
        right = sum(line["right"] for line in faults if "right" in line)
        wrong = [f"{line['cell']}: {line['findings'][0]['rule'] if line['findings'] else 'none'}" for line in faults if not line.get("right")]
        found.append(Row("fault cells", len(faults), "", ">= 40", len(faults) >= 40))
        found.append(Row("first-ranked cause is right", round(100 * right / len(faults), 1), "%", ">= 95", right >= 0.95 * len(faults), why="; ".join(wrong)))
        placed = [line for line in faults if line.get("place") is not None]
        good = sum(line["place"] for line in placed)
        lost = [f"{line['cell']}" for line in placed if not line["place"]]
        found.append(
            Row(
                "file and line are right, of those that have one",
                round(100 * good / max(1, len(placed)), 1),
                "%",
                ">= 90",
                good >= 0.9 * len(placed),
                why="; ".join(lost),
            )
        )
        confirmed = [
            (line, f) for line in faults + by_kind["double"] + by_kind["decoy"] + by_kind["healthy"] for f in line["findings"] if f["confidence"] == "confirmed"
        ]
        false = [f"{line['cell']}: {f['rule']}" for line, f in confirmed if f["rule"] not in line["expect"]]
        found.append(
            Row(
                "wrongly confirmed, of all confirmed",
                round(100 * len(false) / max(1, len(confirmed)), 1),
                "%",
                "<= 5",
                len(false) <= 0.05 * len(confirmed),
                why="; ".join(false),
            )
        )
    for kind, name, least in (
        ("double", "double faults with both causes confirmed or likely", 0.8),
        ("decoy", "decoys that are not blamed", 1.0),
        ("healthy", "healthy runs without a confirmed or likely finding", 1.0),
    ):
        part = by_kind[kind]
        if part:
            right = sum(bool(line.get("right")) for line in part)
            why = "; ".join(f"{line['cell']}: {', '.join(f['rule'] for f in line['findings'][:3])}" for line in part if not line.get("right"))
            found.append(Row(name, right, f"of {len(part)}", f">= {least:.0%}", right >= least * len(part), why=why))
    times = sorted(line["seconds"] for line in lines if not line.get("error"))
    if times:
        found.append(
            Row(
                "URL to diagnosis with baseline and experiments, longest",
                times[-1],
                "s",
                "<= 90",
                times[-1] <= 90,
                why=f"median {times[len(times) // 2]:.0f} s",
            )
        )
    return found


if __name__ == "__main__":
    raise SystemExit(main())
