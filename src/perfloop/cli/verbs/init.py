"""Write a perfloop.toml from what can be discovered about a service."""

from __future__ import annotations

from perfloop.cli.output import Output
from perfloop.model.exit_codes import FINE
from perfloop.model.requests import InitRequest

REQUEST = InitRequest


def run(request: InitRequest, output: Output) -> int:
    """Print where it was written and what to look at."""
    from perfloop import api

    result = api.init(request)
    output.answer("\n".join((f"written: {result.path}", *(f"  {note}" for note in result.notes), "", "Next:  perfloop doctor")), result)
    return FINE
