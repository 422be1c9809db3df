"""Read the audit log, newest last, or verify that no line was changed or removed."""

from __future__ import annotations

from perfloop.cli.output import Output
from perfloop.cli.shown import log_text
from perfloop.model.exit_codes import FINE, NO
from perfloop.model.requests import LogRequest

REQUEST = LogRequest


def run(request: LogRequest, output: Output) -> int:
    """Print the entries."""
    from perfloop import api

    result = api.log(request)
    output.answer(log_text(result), result)
    return NO if result.problems else FINE
