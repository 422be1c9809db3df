"""A perfloop in miniature, to be killed: makes one guarded change and dies by SIGKILL right after the journal reached a state.

Run as a script with one JSON argument. The kill is patched in here, so that the product needs no hooks for it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from perfloop.change.base import ChangeContext
from perfloop.change.kinds import app_setting, cpu_quota, postgres_index, tap, tap_redirect
from perfloop.errors import PerfloopError
from perfloop.host.secrets import resolve
from perfloop.loop.guard import Guard
from perfloop.model.base import Estimate
from perfloop.model.change import Change, ChangeState
from perfloop.model.config import Config
from perfloop.model.finding import Proposal
from perfloop.model.verdict import Proof, Verdict, VerdictStatus
from perfloop.store.audit import AuditLog
from perfloop.store.journal import Journal

KINDS: dict[str, Any] = {"app-setting": app_setting, "postgres-index": postgres_index, "tap": tap, "tap-redirect": tap_redirect, "cpu-quota": cpu_quota}
VERDICT = Verdict(
    status=VerdictStatus.IMPROVED,
    metric="p95_s",
    proof=Proof.TOGGLED,
    pairs=4,
    round_s=1,
    before=Estimate(value=0.2),
    after=Estimate(value=0.1),
    ratio=Estimate(value=0.5),
)


def plan(order: dict[str, Any]) -> tuple[Change, ChangeContext, Config]:
    """The change that an order describes."""
    config = Config.model_validate(order["config"])
    context = ChangeContext(base_dir=Path(order["dir"]), config=config, resolve=resolve, environment=order.get("environment", "sandbox"))
    proposal = Proposal(kind=order["kind"], title="", params=order["params"])
    return KINDS[order["kind"]].plan(proposal, context), context, config


def kill_at(state: str) -> None:
    """Dies once the journal holds ``state`` (``note``: once the work that may go on elsewhere was recorded)."""
    set_state, note = Journal.set_state, Journal.note

    def dying_set_state(self: Journal, change_id: str, new: ChangeState, *args: Any, **kwargs: Any) -> Any:
        entry = set_state(self, change_id, new, *args, **kwargs)
        if new.value == state:
            os.kill(os.getpid(), signal.SIGKILL)
        return entry

    def dying_note(self: Journal, change_id: str, backend: dict[str, Any]) -> None:
        note(self, change_id, backend)
        if state == "note":
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.set_state, Journal.note = dying_set_state, dying_note  # type: ignore[method-assign]


def main() -> int:
    """Does what the order says; prints the change's id, and the watchdog's pid once it is open."""
    order = json.loads(sys.argv[1])
    change, context, config = plan(order)
    kill_at(order.get("die_at", ""))
    print(json.dumps({"change": change.id}), flush=True)
    guard = Guard(Journal(), AuditLog(), KINDS, context, config)
    try:
        with guard.open(change, run_id="r1", target_url=config.target.url) as opened:
            print(json.dumps({"watchdog": opened._watchdog.pid}), flush=True)
            opened.apply()
            if order.get("toggle"):
                opened.toggle_off()
                opened.toggle_on()
            if order.get("fork") and os.fork() == 0:
                time.sleep(20)  # a child that keeps the pipe to the watchdog open
                os._exit(0)
            if order.get("hang_s"):
                print("measuring", flush=True)
                time.sleep(order["hang_s"])
            opened.measured(VERDICT)
            if order.get("undo"):
                opened.undo("the driver was told so")
            else:
                opened.keep()
    except PerfloopError as error:
        print(error.render(), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
