"""What is known about the service, as one agent asks another.

perfloop context --json
perfloop context --state from-the-dba.json     keeps what another agent says, with its source
"""

from __future__ import annotations

from perfloop.cli.output import Output, as_json
from perfloop.model.exit_codes import FINE
from perfloop.model.requests import ContextRequest

REQUEST = ContextRequest


def run(request: ContextRequest, output: Output) -> int:
    """Print one JSON object: it is read by agents."""
    from perfloop import api

    result = api.context(request)
    output.answer(as_json(result), result)
    return FINE
