"""The page of a rule, a change kind or an exit code. Without an id: what there is to explain."""

from __future__ import annotations

from perfloop.cli.output import Output
from perfloop.model.exit_codes import EXIT_CODES, FINE
from perfloop.model.requests import ExplainRequest

REQUEST = ExplainRequest


def run(request: ExplainRequest, output: Output) -> int:
    """Print the page."""
    if request.id.isdigit() and int(request.id) in EXIT_CODES:
        text = f"exit code {request.id}\n\n{EXIT_CODES[int(request.id)]}"
    else:
        from perfloop import api

        text = api.explain(request)
    output.answer(text, {"ok": True, "id": request.id, "text": text})
    return FINE
