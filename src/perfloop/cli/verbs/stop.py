"""End running load at once, by the ids of its own processes; what was measured is kept.

perfloop stop, or perfloop stop RUN
"""

from __future__ import annotations

from perfloop.cli.output import Output
from perfloop.cli.shown import stop_text
from perfloop.model.exit_codes import FINE, NO
from perfloop.model.requests import StopRequest

REQUEST = StopRequest


def run(request: StopRequest, output: Output) -> int:
    """Print what was ended."""
    from perfloop import api

    result = api.stop(request)
    output.answer(stop_text(result), result)
    return FINE if result.ok else NO
