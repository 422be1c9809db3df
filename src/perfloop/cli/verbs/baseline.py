"""Keep a run as a named reference, list the references, or drop one.

perfloop baseline release-7, later perfloop compare baseline:release-7 last
"""

from __future__ import annotations

from perfloop.cli.output import Output
from perfloop.cli.shown import baseline_text
from perfloop.model.exit_codes import FINE
from perfloop.model.requests import BaselineRequest

REQUEST = BaselineRequest


def run(request: BaselineRequest, output: Output) -> int:
    """Print the baselines."""
    from perfloop import api

    result = api.baseline(request)
    output.answer(baseline_text(result), result)
    return FINE
