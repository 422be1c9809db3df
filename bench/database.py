"""Databases: the planner twin, what-if, the choice of indexes, plan regressions, safe builds; peers in the same run.

python -m bench.database [--only GROUP[,GROUP]] [--data FOLDER]

Each group of rows is one file of ``bench/database_rows``; a group's rows are kept below ``.bench/``, so that a long bench can be run in pieces.
"""

from __future__ import annotations

import argparse
import importlib
import json
from dataclasses import asdict
from pathlib import Path

from bench.database_tools.options import Options
from bench.table import Row, finish

ROOT = Path(__file__).parent.parent
ROWS = Path(__file__).parent / "database_rows"


def main() -> int:
    """Run the chosen groups, and print the rows of all that were ever run here."""
    names = sorted(path.stem for path in ROWS.glob("*.py") if path.stem != "__init__")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(names), help="groups, separated by commas: " + ", ".join(names))
    parser.add_argument("--data", default=str(ROOT.parent / "shared" / "data"), help="folder of public data that is not part of this repository")
    chosen = parser.parse_args()
    options = Options(work=ROOT / ".bench" / "database", data=Path(chosen.data))
    kept = options.work / "rows"
    kept.mkdir(parents=True, exist_ok=True)
    for name in chosen.only.split(","):
        rows = importlib.import_module(f"bench.database_rows.{name}").rows(options)
        (kept / f"{name}.json").write_text(json.dumps([asdict(row) for row in rows]))
    found = [Row(**row) for name in names if (kept / f"{name}.json").exists() for row in json.loads((kept / f"{name}.json").read_text())]
    return finish("database", found)


if __name__ == "__main__":
    raise SystemExit(main())
