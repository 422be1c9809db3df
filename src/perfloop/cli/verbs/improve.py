"""The whole loop: measure, find the cause, change what is safe, prove it, keep or undo it, and look again.

perfloop improve http://localhost:8000 --environment sandbox --budget 10m
"""

from __future__ import annotations

from perfloop.cli.exits import of_run
from perfloop.cli.output import Output
from perfloop.cli.progress import follow
from perfloop.cli.shown import show_run
from perfloop.model.requests import ImproveRequest

REQUEST = ImproveRequest


def run(request: ImproveRequest, output: Output) -> int:
    """Follow the run and print its summary."""
    from perfloop import api

    result = follow(api.improve(request), output)
    show_run(result, output)
    return of_run(result, request.strict)
