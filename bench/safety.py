"""``make bench-safety``: deaths at every boundary, faults of the disk and the clock, foreign edits; and an audit log that somebody meddles with.

Resumable: each trial is a line of ``.bench/safety/trials.jsonl``; what is there already is not done again. ``--seconds 150`` ends a piece in time,
``--report`` writes the table of what is there. So are the audit rows, in two pieces: ``--audit timing`` (on a machine that is quiet) and ``--audit meddling``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.safety_kill import audit_rows  # noqa: E402
from bench.safety_kill.campaign import FAULTS, Campaign, campaign  # noqa: E402
from bench.table import Row, finish  # noqa: E402
from services.labs import LABS  # noqa: E402

TRIALS = ROOT / ".bench" / "safety" / "trials.jsonl"
#: of one kind every boundary, of the others so many, spread evenly; a worker takes a second to come or go
ALL_OF = "config-file"
KILLS, SLOW_KILLS, OTHERS = 100, 40, 12
SLOW = ("workers",)
AUDIT = {"timing": audit_rows.timing, "meddling": audit_rows.meddling}


def wanted(kind: str, where: Campaign) -> Iterator[tuple[str, int]]:
    """What is tried of a kind, and at which boundary."""
    calls, undo_calls = where.calls(), where.undo_calls()
    kills = calls if kind == ALL_OF else SLOW_KILLS if kind in SLOW else KILLS
    others = OTHERS // 3 if kind in SLOW else OTHERS
    yield from (("kill", at) for at in spread(calls, kills))
    for what in ("torn", "both", *FAULTS, "clock ahead", "clock back"):
        yield from ((what, at) for at in spread(calls - 30, others))
    yield from (("recovery", at) for at in spread(undo_calls, 3 * others))
    yield from (("spawned", at) for at in spread(calls, 3))
    yield from (("foreign", at) for at in range(3))


def spread(last: int, count: int) -> list[int]:
    """``count`` boundaries from 1 to ``last``, evenly."""
    count = min(count, last)
    return sorted({1 + round((last - 1) * number / max(1, count - 1)) for number in range(count)})


def known() -> list[dict[str, Any]]:
    """The trials that were made, oldest first."""
    return [json.loads(line) for line in TRIALS.read_text().splitlines()] if TRIALS.exists() else []


def make(kinds: list[str], seconds: float) -> bool:
    """Makes trials until the time is over, each kind getting its share of it; True where none is left to make."""
    until = time.monotonic() + seconds
    TRIALS.parent.mkdir(parents=True, exist_ok=True)
    finished = True
    for number, kind in enumerate(kinds):
        share_s = (until - time.monotonic()) / (len(kinds) - number)
        finished &= _of_kind(kind, time.monotonic() + share_s)
    return finished


def _of_kind(kind: str, until: float) -> bool:
    done = {(row["what"], row["at"]) for row in known() if row["kind"] == kind}
    if ("finished", 0) in done:
        return True
    with campaign(kind) as where, TRIALS.open("a") as file:
        for what, at in wanted(kind, where):
            if (what, at) in done:
                continue
            if time.monotonic() > until:
                return False
            row = where.trial(what, at)
            file.write(json.dumps(row) + "\n")
            file.flush()
            if not row["ok"]:
                print(row)
        file.write(json.dumps({"kind": kind, "what": "finished", "at": 0, "ok": True, "after_s": 0, "killed": False, "why": ""}) + "\n")
    print(f"{kind}: finished")
    return True


def table() -> list[Row]:
    """The rows, from the trials that were made."""
    trials = [row for row in known() if row["what"] != "finished"]
    kills = [row for row in trials if row["killed"]]
    kinds = sorted({row["kind"] for row in kills})
    lost = [row for row in kills if not row["ok"]]
    enough = len(kills) >= 1000 and len(kinds) >= 8
    worst = max((row["after_s"] for row in kills), default=0.0)
    rows = [
        Row("kills", len(kills), "kills", "≥ 1,000", len(kills) >= 1000, why=f"of {', '.join(kinds)}; {_visited(kills)}"),
        Row("kinds of change among them", len(kinds), "kinds", "≥ 8", len(kinds) >= 8),
        Row("back to the before-image, byte for byte", share(kills), "%", "100 %", not lost if enough else None, why=f"{len(lost)} were not" if lost else ""),
        Row("longest way back", worst, "s", "≤ 30 s", worst <= 30, why="from the death until nothing is left to do"),
    ]
    for name, what in (
        ("killed with its watchdog, recovered by the next command, twice", ("both",)),
        ("recovery killed in the middle, then again", ("recovery",)),
        ("record half written at the kill", ("torn",)),
        ("disk full (ENOSPC)", ("ENOSPC",)),
        ("disk broken (EIO)", ("EIO",)),
        ("file system read-only (EROFS)", ("EROFS",)),
        ("clock jumps by a year, then killed", ("clock ahead", "clock back")),
        ("with the real watchdog process", ("spawned",)),
        ("foreign edit left alone, told as stuck", ("foreign",)),
    ):
        those = [row for row in trials if row["what"] in what]
        rows.append(
            Row(f"{name}, of {len(those)}", share(those), "%", "100 %", all(row["ok"] for row in those) if those else None, why="" if those else "not run")
        )
    return rows


def _visited(kills: list[dict[str, Any]]) -> str:
    """How many boundaries of the one kind were visited, and whether that is all."""
    visited = len({row["at"] for row in kills if row["kind"] == ALL_OF and row["what"] == "kill"})
    whole = any(row["kind"] == ALL_OF and row["what"] == "torn" for row in known())  # begun after the last kill
    return f"at {'all' if whole else 'the first'} {visited} boundaries of {ALL_OF}"


def share(rows: list[dict[str, Any]]) -> float | None:
    """Per cent that are ok."""
    return round(100 * sum(row["ok"] for row in rows) / len(rows), 2) if rows else None


def audited(piece: str, anew: bool = False) -> list[Row]:
    """The audit rows of a piece, kept beside the trials."""
    kept = TRIALS.parent / f"audit-{piece}.json"
    if anew or not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps([asdict(row) for row in AUDIT[piece]()]))
    return [Row(**fields) for fields in json.loads(kept.read_text())]


def main() -> int:
    """Makes what is missing, then writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default=",".join(LABS))
    parser.add_argument("--seconds", type=float, default=86_400)
    parser.add_argument("--report", action="store_true", help="only write the table")
    parser.add_argument("--audit", choices=list(AUDIT), help="only make this piece of the audit rows")
    options = parser.parse_args()
    if options.audit:
        audited(options.audit, anew=True)
        return 0
    if not options.report and not make(options.kinds.split(","), options.seconds):
        print("not finished: run it again")
        return 3
    return finish("safety", [*table(), *(row for piece in AUDIT for row in audited(piece))])


if __name__ == "__main__":
    sys.exit(main())
