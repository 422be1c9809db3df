"""Start a service with counters inside: database queries, cache calls and outgoing HTTP calls of each request, with file and line.

perfloop run -- gunicorn shop:app

For Python services: a folder with a sitecustomize is put first in PYTHONPATH, workers inherit it. Then perfloop check URL, from another terminal, finds the counters by itself.
"""

from __future__ import annotations

from perfloop.cli.output import Output
from perfloop.model.requests import RunRequest

REQUEST = RunRequest


def run(request: RunRequest, _output: Output) -> int:
    """Become the command; returns only where that failed."""
    from perfloop import api

    api.run(request)
    raise AssertionError("a process that was replaced does not go on")
