"""The measured table of docs/load.md, written by the bench itself, with the day and the machine."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

from bench.table import Row

PAGE = Path("docs/load.md")
BEGIN, END = "<!-- measured: written by make bench-load -->", "<!-- end of measured -->"
_MARKS = {True: "yes", False: "**no**", None: "not settled"}


def write(rows: list[Row]) -> None:
    """Replaces the table between the two marks of the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = ["| measure | measured | against | theirs | ratio | needed | holds | |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        cells = (row.measure, _number(row.value, row.unit), row.against, _number(row.peer_value, row.unit), _number(row.ratio, ""))
        lines.append("| " + " | ".join((*cells, row.needed, _MARKS[row.ok], row.why.replace("|", "/"))) + " |")
    table = "\n".join(lines)
    PAGE.write_text(f"{before}{BEGIN}\n{_where()}\n\n{table}\n{END}{after}")


def _where() -> str:
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), platform.machine())
    return f"Measured on {time.strftime('%Y-%m-%d')}: {os.cpu_count()} cores of {model} (virtual machine: {_virtual()}), Linux {platform.release()}, CPython {platform.python_version()}."


def _virtual() -> str:
    flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
    return "yes" if "hypervisor" in flags.split() else "no"


def _number(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:,g} {unit}".strip()
