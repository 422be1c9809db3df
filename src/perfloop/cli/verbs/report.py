"""Render a stored run. perfloop report last --format html -o report.html"""

from __future__ import annotations

from perfloop.cli.output import Output
from perfloop.model.exit_codes import FINE
from perfloop.model.requests import ReportRequest

REQUEST = ReportRequest


def run(request: ReportRequest, output: Output) -> int:
    """Print the document, or write it with -o."""
    from perfloop import api

    if output.json:
        request = request.with_(format="json")
    output.document(api.report(request))
    return FINE
