"""List, give or revoke approvals that are remembered: a kind of change on a target, applied without asking again.

perfloop approvals, perfloop approvals postgres-index --url http://shop --by NAME, perfloop approvals --revoke ID
"""

from __future__ import annotations

from perfloop.cli.output import Output
from perfloop.cli.shown import approvals_text
from perfloop.model.exit_codes import FINE
from perfloop.model.requests import ApprovalsRequest

REQUEST = ApprovalsRequest


def run(request: ApprovalsRequest, output: Output) -> int:
    """Print what was done, and all approvals."""
    from perfloop import api

    result = api.approvals(request)
    output.answer(approvals_text(result), result)
    return FINE
