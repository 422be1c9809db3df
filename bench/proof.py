"""Is the proof honest? False claims and power, simulated and live; change points against Apache Otava; claims.

python -m bench.proof [PART …]      parts: simulated, points, claims, claims_styles, live; all stored parts are shown
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from bench.table import Row, finish

STATE = Path(__file__).parent / "results" / "proof"
PARTS = ("simulated", "points", "claims", "claims_styles", "live")


def main() -> int:
    """Run the parts asked for, keep their rows, and print all that are known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    chosen = parser.parse_args().parts or list(PARTS)
    STATE.mkdir(parents=True, exist_ok=True)
    wanted = int(os.environ.get("N", "0")) or None
    for part in chosen:
        rows: Callable[..., list[Row]] = import_module(f"bench.proof_bench.{part}").rows
        made = rows(wanted) if wanted else rows()
        (STATE / f"{part}.json").write_text(json.dumps([asdict(row) for row in made], indent=1))
    known = [Row(**row) for part in PARTS if (STATE / f"{part}.json").exists() for row in json.loads((STATE / f"{part}.json").read_text())]
    return finish("proof", known)


if __name__ == "__main__":
    raise SystemExit(main())
