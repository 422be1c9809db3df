"""Apply a saved plan under journal and watchdog, prove each change, and keep or undo it.

Changes that ask are applied with --yes only. A plan whose live values have moved since is refused.
"""

from __future__ import annotations

from perfloop.cli.exits import of_run
from perfloop.cli.output import Output
from perfloop.cli.progress import follow
from perfloop.cli.shown import show_run
from perfloop.model.requests import ApplyRequest

REQUEST = ApplyRequest


def run(request: ApplyRequest, output: Output) -> int:
    """Follow the run and print its summary."""
    from perfloop import api

    result = follow(api.apply(request), output)
    show_run(result, output)
    return of_run(result, request.strict)
