"""Measure a service, find its bottleneck, report. Sends traffic and changes nothing.

perfloop check http://localhost:8000
"""

from __future__ import annotations

from perfloop.cli.exits import of_run
from perfloop.cli.output import Output
from perfloop.cli.progress import follow
from perfloop.cli.shown import show_run
from perfloop.model.requests import CheckRequest

REQUEST = CheckRequest


def run(request: CheckRequest, output: Output) -> int:
    """Follow the run and print its summary."""
    from perfloop import api

    result = follow(api.check(request), output)
    show_run(result, output)
    return of_run(result, request.strict)
