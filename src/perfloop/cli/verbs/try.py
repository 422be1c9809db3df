# ruff: noqa: N999  (the verb is called try)
"""Measure candidates of code against the committed state, or settings on the running service; keep what is proved to help.

perfloop try --patch fix.diff

perfloop try --set app.toml:pool.size=20,app.toml:pool.size=40

perfloop try --sql 'CREATE INDEX ON orders (customer_id)'

perfloop try --tune postgresql

Code (branches, patches, other start commands) runs in git worktrees of its own: the working tree and uncommitted work are never touched.
Several candidates race, and the winner is proved on fresh rounds. A patch that helps becomes a branch. Settings and
statements are tried on the running service under journal and watchdog: several race in blocks of rounds, each round applied, measured and
undone, and ended within seconds where it does harm; the winner is proved by toggling on fresh rounds, and kept or put back.
"""

from __future__ import annotations

from perfloop.cli.output import Output
from perfloop.cli.progress import follow
from perfloop.cli.shown_proof import try_text
from perfloop.model.exit_codes import FINE, NO
from perfloop.model.requests import TryRequest

REQUEST = TryRequest


def run(request: TryRequest, output: Output) -> int:
    """Follow the race and print what became of each candidate."""
    from perfloop import api

    result = follow(api.try_code(request), output)
    output.answer(try_text(result), result)
    return FINE if result.ok else NO
