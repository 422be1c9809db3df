"""One table: rows of the issue's "What it must reach", printed and written the same way by every bench."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass
class Row:
    """One measure. ``ok`` is None where it could not be measured, and then ``why`` says so."""

    measure: str
    value: float | None
    unit: str
    needed: str
    ok: bool | None
    against: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    why: str = ""


def finish(name: str, rows: list[Row]) -> int:
    """Print the table, write ``results/NAME.json``, and return the exit code: 1 where a row is not ok."""
    width = max(len(row.measure) for row in rows)
    for row in rows:
        mark = {True: "ok", False: "NO", None: "??"}[row.ok]
        value = "–" if row.value is None else f"{row.value:g}"
        print(f"{mark:>3}  {row.measure:<{width}}  {value:>10} {row.unit:<6} needed {row.needed}" + (f"   {row.why}" if row.why else ""))
    RESULTS.mkdir(exist_ok=True)
    order: list[dict[str, Any]] = [
        {key: asdict(row)[key] for key in ("measure", "value", "unit", "against", "peer_value", "ratio", "needed", "ok", "why")} for row in rows
    ]
    (RESULTS / f"{name}.json").write_text(json.dumps(order, indent=2, ensure_ascii=False) + "\n")
    return 0 if all(row.ok is not False for row in rows) else 1
