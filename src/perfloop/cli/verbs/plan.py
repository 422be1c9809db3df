"""Write a plan of changes from a run's findings: diff, risk, reach, undo and expected gain. Applies nothing."""

from __future__ import annotations

from perfloop.cli.output import Output
from perfloop.cli.shown import plan_text
from perfloop.model.exit_codes import FINE
from perfloop.model.requests import PlanRequest

REQUEST = PlanRequest


def run(request: PlanRequest, output: Output) -> int:
    """Print the plan and how to apply it."""
    from perfloop import api

    plan = api.plan(request)
    output.answer(plan_text(plan), plan)
    return FINE
