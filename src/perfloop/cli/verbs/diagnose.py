"""Judge the stored evidence of a run again, without traffic. An old run gets the benefit of newer rules."""

from __future__ import annotations

from perfloop.cli.output import Output
from perfloop.cli.shown import show_run
from perfloop.model.exit_codes import FINE
from perfloop.model.requests import DiagnoseRequest

REQUEST = DiagnoseRequest


def run(request: DiagnoseRequest, output: Output) -> int:
    """Print the findings."""
    from perfloop import api

    show_run(api.diagnose(request), output)
    return FINE
