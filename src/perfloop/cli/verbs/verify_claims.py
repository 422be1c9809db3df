"""Check each performance figure of a text against stored evidence: supported, contradicted (with the measured value), or without evidence.

perfloop verify-claims pull-request.md

Exit 1 where a figure is contradicted or has no evidence.
"""

from __future__ import annotations

from perfloop.cli.output import Output
from perfloop.cli.shown_proof import claims_text
from perfloop.model.exit_codes import FINE, NO
from perfloop.model.requests import VerifyClaimsRequest

REQUEST = VerifyClaimsRequest


def run(request: VerifyClaimsRequest, output: Output) -> int:
    """Print the figures and what was measured."""
    from perfloop import api

    result = api.verify_claims(request)
    output.answer(claims_text(result, output.verbose), result)
    return FINE if result.ok else NO
