"""Measure two states of the code interleaved on this machine, and fail on a regression or a broken budget.

perfloop gate --against origin/main --markdown comment.md --junit gate.xml

Exit 0: no regression, budgets kept. 1: regression or budget broken. 3: the measurement was invalid. 4: inconclusive (1 with --strict).
"""

from __future__ import annotations

from pathlib import Path

from perfloop.cli.exits import of_gate
from perfloop.cli.output import Output
from perfloop.cli.progress import follow
from perfloop.cli.shown_proof import gate_text
from perfloop.host.files import write_atomic
from perfloop.model.requests import GateRequest
from perfloop.report.gate import gate_junit, gate_markdown

REQUEST = GateRequest


def run(request: GateRequest, output: Output) -> int:
    """Follow the rounds, print the verdict, write the files."""
    from perfloop import api

    result = follow(api.gate(request), output)
    for path, text in ((request.junit, gate_junit), (request.markdown, gate_markdown)):
        if path:
            write_atomic(Path(path), text(result).encode())
            output.tell(f"written: {path}")
    output.answer(gate_text(result), result)
    return of_gate(result)
