"""Look at one query: its plan, where its time goes, why it is slower than it was, what would help; with --fix applied and proved.

perfloop query "SELECT …" --was baseline:main --fix

The query is executed read-only, by a role that can do nothing else. Text that is no SQL, several statements, writes and volatile functions are
refused before anything runs. Each look stores a snapshot of what the planner knows, so that a later one can tell what changed.
"""

from __future__ import annotations

from perfloop.cli.output import Output
from perfloop.cli.progress import follow
from perfloop.cli.query_shown import query_text
from perfloop.model.exit_codes import FINE, NO
from perfloop.model.requests import QueryRequest

REQUEST = QueryRequest


def run(request: QueryRequest, output: Output) -> int:
    """Print the answer; 1 where a cause was found and not fixed."""
    from perfloop import api

    result = follow(api.query(request), output)
    output.answer(query_text(result, output.verbose), result)
    return FINE if result.ok else NO
