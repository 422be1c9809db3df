"""One performance test, with the answer of its kind.

perfloop load http://localhost:8000 --kind stress
"""

from __future__ import annotations

from perfloop.cli.exits import of_run
from perfloop.cli.output import Output
from perfloop.cli.progress import follow
from perfloop.cli.shown import show_run
from perfloop.model.requests import LoadRequest

REQUEST = LoadRequest


def run(request: LoadRequest, output: Output) -> int:
    """Follow the test and print its answer."""
    from perfloop import api

    result = follow(api.load(request), output)
    show_run(result, output)
    return of_run(result, request.strict)
