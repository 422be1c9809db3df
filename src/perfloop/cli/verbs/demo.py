"""Start the bundled slow service on a database of its own, and run the whole loop on it.

perfloop demo --problems missing-index,pool-exhausted
"""

from __future__ import annotations

from perfloop.cli.exits import of_run
from perfloop.cli.output import Output
from perfloop.cli.progress import follow
from perfloop.cli.shown import show_run
from perfloop.model.requests import DemoRequest

REQUEST = DemoRequest


def run(request: DemoRequest, output: Output) -> int:
    """Follow the run and print its summary."""
    from perfloop import api

    result = follow(api.demo(request), output)
    show_run(result, output)
    return of_run(result)
