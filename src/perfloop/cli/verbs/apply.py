"""Apply a saved plan under journal and watchdog, prove each change, and keep or undo it.

The plan is shown first, and applied after a yes (--yes answers it). A plan whose live values have moved since is refused.
"""

from __future__ import annotations

import sys

from perfloop.cli.exits import of_run
from perfloop.cli.output import Output
from perfloop.cli.progress import follow
from perfloop.cli.shown import plan_text, show_run
from perfloop.errors import UsageError
from perfloop.model.change import Plan
from perfloop.model.exit_codes import NO
from perfloop.model.requests import ApplyRequest

REQUEST = ApplyRequest


def run(request: ApplyRequest, output: Output) -> int:
    """Show the plan, ask, follow the run and print its summary."""
    from perfloop import api

    plan = api.planned(request)
    if not request.yes:
        answer = _asked(plan, request, output)
        if answer == "no":
            output.tell("Nothing was applied.")
            return NO
        if answer == "always":
            api.remember_approval(plan, request)
        request = request.with_(yes=True)
    result = follow(api.apply(request), output)
    show_run(result, output)
    return of_run(result, request.strict)


def _asked(plan: Plan, request: ApplyRequest, output: Output) -> str:
    """``yes``, ``no`` or ``always``; ``UsageError`` where nobody can be asked."""
    sys.stderr.write(plan_text(plan).rpartition("\n\nNext:")[0] + "\n\n")
    if request.no_input or output.no_input or output.json or not sys.stdin.isatty():
        raise UsageError("apply asks before it changes anything, and there is nobody to ask", fix=f"perfloop apply {request.plan} --yes")
    sys.stderr.write("Apply it? Each change is proved, and undone where it does not help. [y]es, [a]lways for these kinds on this target, [N]o: ")
    sys.stderr.flush()
    return {"y": "yes", "yes": "yes", "a": "always", "always": "always"}.get(sys.stdin.readline().strip().lower(), "no")
