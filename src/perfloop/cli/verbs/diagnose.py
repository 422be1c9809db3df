"""Judge the stored evidence of a run again, without traffic. An old run gets the benefit of newer rules.

perfloop diagnose --metrics before.csv after.csv

With --metrics it ranks causes from an export of any monitoring system instead: one row a moment, one column a metric, of one file with an unknown onset or two.
"""

from __future__ import annotations

from perfloop.cli.metrics_shown import metrics_text
from perfloop.cli.output import Output
from perfloop.cli.shown import show_run
from perfloop.model.exit_codes import FINE
from perfloop.model.requests import DiagnoseRequest

REQUEST = DiagnoseRequest


def run(request: DiagnoseRequest, output: Output) -> int:
    """Print the findings."""
    from perfloop import api

    if request.metric_files:
        ranked = api.diagnose_metrics(request)
        output.answer(metrics_text(ranked, output.verbose), ranked)
        return FINE
    show_run(api.diagnose(request), output)
    return FINE
