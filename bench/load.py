"""The load engine against its peers, side by side: each pinned to one core, the server to the other.

``python -m bench.load`` runs every part that has no result yet and prints the table; ``python -m bench.load speed cpu`` runs these parts again.
Results of parts are kept below ``.bench/load`` so that a stopped bench goes on where it was.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from bench.load_rows import page
from bench.table import Row, finish

#: part → module and function that gives its rows
PARTS: dict[str, tuple[str, str]] = {
    "speed": ("bench.load_rows.speed", "rows"),
    "four-steps": ("bench.load_rows.speed", "four_steps"),
    "cpu": ("bench.load_rows.cost", "cpu"),
    "memory-few": ("bench.load_rows.cost", "memory_few"),
    "memory-many": ("bench.load_rows.cost", "memory_many"),
    "truth": ("bench.load_rows.truth", "rows"),
    "lateness": ("bench.load_rows.cost", "lateness"),
    "search": ("bench.load_rows.search", "rows"),
}
KEPT = Path(".bench/load/parts")


def main(asked: list[str]) -> int:
    KEPT.mkdir(parents=True, exist_ok=True)
    table: list[Row] = []
    for part, (module, function) in PARTS.items():
        kept = KEPT / f"{part}.json"
        if part in asked or (not asked and not kept.exists()):
            rows_of: Callable[[], list[Row]] = getattr(import_module(module), function)
            kept.write_text(json.dumps([asdict(row) for row in rows_of()]))
        if kept.exists():
            table += [Row(**row) for row in json.loads(kept.read_text())]
    page.write(table)
    return finish("load", table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
