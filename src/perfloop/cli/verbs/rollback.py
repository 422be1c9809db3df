"""Undo changes that were kept, are open, or are stuck; --show prints the commands instead.

Without a change's id: everything that is open for the configured target.
"""

from __future__ import annotations

from perfloop.cli.output import Output
from perfloop.cli.shown import rollback_text
from perfloop.model.exit_codes import FINE, STUCK
from perfloop.model.requests import RollbackRequest

REQUEST = RollbackRequest


def run(request: RollbackRequest, output: Output) -> int:
    """Print what was undone."""
    from perfloop import api

    result = api.rollback(request)
    output.answer(rollback_text(result), result)
    return FINE if result.ok else STUCK
