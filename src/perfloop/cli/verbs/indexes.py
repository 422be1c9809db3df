"""Which indexes a workload wants and which it does not need, by the planner twin. Changes nothing.

perfloop indexes queries.sql --storage-mb 200

Without a file the workload is what pg_stat_statements counted. Candidates are planned in a private, empty server with the target's statistics.
"""

from __future__ import annotations

from perfloop.cli.indexes_shown import indexes_text
from perfloop.cli.output import Output
from perfloop.cli.progress import follow
from perfloop.model.exit_codes import FINE
from perfloop.model.requests import IndexesRequest

REQUEST = IndexesRequest


def run(request: IndexesRequest, output: Output) -> int:
    """Print the advice."""
    from perfloop import api

    result = follow(api.indexes(request), output)
    output.answer(indexes_text(result, output.verbose), result)
    return FINE
