"""Where the stored runs' figures moved to another level, and between which commits. A suspicion: only measuring both commits side by side proves it.

perfloop history --confirm
"""

from __future__ import annotations

from perfloop.cli.output import Output
from perfloop.cli.progress import follow
from perfloop.cli.shown_proof import history_text
from perfloop.model.exit_codes import FINE, NO
from perfloop.model.requests import HistoryRequest

REQUEST = HistoryRequest


def run(request: HistoryRequest, output: Output) -> int:
    """Print the series and their changes."""
    from perfloop import api

    result = api.history(request)
    if request.confirm:
        result = follow(api.confirm_history(request, result), output)
    output.answer(history_text(result), result)
    return FINE if result.ok else NO
