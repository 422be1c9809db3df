"""How far the service goes, what ends it, what to add for a growth, what that costs, and how to scale it. Sends traffic up to its end and changes nothing.

perfloop capacity http://localhost:8000 --growth 10x
"""

from __future__ import annotations

from perfloop.cli.exits import of_run
from perfloop.cli.output import Output
from perfloop.cli.progress import follow
from perfloop.cli.shown import show_run
from perfloop.model.requests import CapacityRequest

REQUEST = CapacityRequest


def run(request: CapacityRequest, output: Output) -> int:
    """Follow the measurement and print the plan."""
    from perfloop import api

    result = follow(api.capacity(request), output)
    show_run(result, output)
    return of_run(result, request.strict)
