"""How far the capacity plan can be trusted: the law, its bands, its refusals, and predictions that are then measured on real services.

python -m bench.capacity [--only oracles|live] [--resume] [--cells N] [--services cpu,lock,…]

Each live cell is one line of ``results/capacity-live.jsonl``; with ``--resume`` those that stand there are not repeated, and ``--cells`` bounds how many are made.
"""

from __future__ import annotations

import argparse
import signal
import sys

from bench.capacity_parts import live, oracles
from bench.table import finish


def main() -> int:
    """Make the cells that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", choices=("", "oracles", "live"))
    parser.add_argument("--resume", action="store_true", help="keep the cells of an earlier call")
    parser.add_argument("--cells", type=int, default=10_000, help="live cells to make in this call at most")
    parser.add_argument("--services", default="", help="only these")
    chosen = parser.parse_args()
    if chosen.only != "oracles":
        if not chosen.resume:
            live.LOG.unlink(missing_ok=True)
        wanted = [cell for cell in live.cells() if cell not in live.done() and (not chosen.services or cell[0] in chosen.services.split(","))]
        signal.signal(signal.SIGTERM, _ended)
        for name, sweep in wanted[: chosen.cells]:
            try:
                live.measure(name, sweep)
            finally:
                live.remove_groups()
        if len(wanted) > chosen.cells:
            print(f"{len(wanted) - chosen.cells} cells are still missing", file=sys.stderr)
    return finish("capacity", [*(oracles.rows() if chosen.only != "live" else []), *live.rows()])


def _ended(*_: object) -> None:
    """SIGTERM ends the cell as an error does: services are ended, groups removed, and the cell is not counted."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(143)


if __name__ == "__main__":
    sys.exit(main())
