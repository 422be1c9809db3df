"""A process with all of perfloop imported, that forks a perfloop in miniature for each order, lets it die, and tells when everything it left has ended.

Started with the shim preloaded. One JSON order a line on stdin, one JSON answer a line on stdout. What is forked runs the product's own code: guard,
watchdog and recovery; only the start of a new interpreter for the watchdog is saved (``"watchdog": "spawn"`` saves nothing).
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.safety_kill import shim
from perfloop.change.base import ChangeContext
from perfloop.errors import PerfloopError
from perfloop.host.secrets import resolve
from perfloop.loop import plugins, recover, watchdog
from perfloop.loop.guard import Guard
from perfloop.model.base import Estimate
from perfloop.model.change import Change
from perfloop.model.config import Config
from perfloop.model.finding import Proposal
from perfloop.model.verdict import Proof, Verdict, VerdictStatus
from perfloop.store.audit import AuditLog
from perfloop.store.journal import Journal

URL = "http://127.0.0.1:1"
_SUBREAPER = 36
_SHIM = shim.loaded()
_KINDS = plugins.load("change kind")
_VERDICT = Verdict(
    status=VerdictStatus.INCONCLUSIVE,
    metric="p95_s",
    proof=Proof.TOGGLED,
    pairs=4,
    round_s=1,
    before=Estimate(value=0.2),
    after=Estimate(value=0.2),
    ratio=Estimate(value=1),
)


def arm(order: dict[str, Any]) -> None:
    """From here on calls count."""
    what = order["arm"]
    _SHIM.shim_arm(shim.MODES[what["mode"]], what.get("at", 0), what.get("errno", 0), what.get("offset_s", 0), what.get("kill_at", 0))


def context_of(order: dict[str, Any], journal: Journal) -> tuple[ChangeContext, Config]:
    """The configuration of an order, with a short round so that leases are short too."""
    config = Config.model_validate({**order["config"], "measure": {"pairs_window_s": 1, "settle_s": 0}})
    return ChangeContext(Path(order["base_dir"]), config, resolve, "sandbox", journal.images), config


def planned(order: dict[str, Any], context: ChangeContext) -> Change:
    """The change of an order."""
    change: Change = _KINDS[order["kind"]].plan(Proposal(kind=order["kind"], title="", params=order["params"]), context)
    return change


def whole_life(order: dict[str, Any]) -> None:
    """A change from its opening to its undo, with one toggle, as a proof does it; calls count from the opening on."""
    journal = Journal()
    context, config = context_of(order, journal)
    change = planned(order, context)
    if order["watchdog"] != "spawn":
        watchdog.Watchdog._started = _forked  # type: ignore[method-assign]
    guard = Guard(journal, AuditLog(), _KINDS, context, config)
    arm(order)
    with guard.open(change, run_id="bench", target_url=URL) as opened:
        opened.apply()
        opened.toggle_off()
        opened.toggle_on()
        opened.measured(_VERDICT)
        if order.get("stop") == "measured":
            os.kill(os.getpid(), signal.SIGKILL)
        opened.undo("the bench said so")


def next_command(order: dict[str, Any]) -> None:
    """What the next perfloop does at its start."""
    arm(order)
    recover.recover(None, journal=Journal(), audit=AuditLog())


def _forked(self: watchdog.Watchdog) -> Any:
    """The watchdog without a new interpreter: the same main, in a session of its own, with pipes for stdin and stdout."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _SHIM.shim_disarm()
        os.setsid()
        os.dup2(to_read, 0)
        os.dup2(from_write, 1)
        for descriptor in (to_read, to_write, from_read, from_write):
            os.close(descriptor)
        os._exit(watchdog.main(["--state-dir", str(self._root), "--parent", str(parent)]))
    os.close(to_read)
    os.close(from_write)
    Path(os.environ["PERFLOOP_STATE_DIR"], "watchdog.pid").write_text(str(pid))
    os.write(to_write, json.dumps(self._settings).encode() + b"\n")
    assert os.read(from_read, 1) == watchdog.ARMED
    return _Process(pid, to_write, from_read)


class _Process:
    """As much of ``subprocess.Popen`` as the watchdog's parent uses."""

    def __init__(self, pid: int, to_write: int, from_read: int) -> None:
        self.pid, self.stdin, self.stdout = pid, os.fdopen(to_write, "wb", buffering=0), os.fdopen(from_read, "rb", buffering=0)

    def poll(self) -> int | None:
        with suppress(ChildProcessError):
            return 0 if os.waitpid(self.pid, os.WNOHANG)[0] else None
        return 0

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("watchdog", timeout)
            time.sleep(0.005)
        return 0


def carry_out(order: dict[str, Any]) -> dict[str, Any]:
    """Forks, waits for the child's end and then for everything that it left; with ``kill_watchdog``, that is killed at once."""
    os.environ.update({"PERFLOOP_STATE_DIR": order["state_dir"], **order.get("env", {})})
    told_read, told_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told_read)
        code, why = 0, ""
        try:
            (whole_life if order["do"] == "life" else next_command)(order)
        except PerfloopError as error:
            code, why = error.exit_code, error.render()
        except BaseException as error:  # noqa: BLE001 -- a child must tell its end, whatever it is
            code, why = 99, f"{type(error).__name__}: {error}"
        calls = _SHIM.shim_calls()
        _SHIM.shim_disarm()
        os.write(told_write, json.dumps({"calls": calls, "code": code, "why": why}).encode())
        os._exit(0)
    os.close(told_write)
    _, status = os.waitpid(child, 0)
    died = time.monotonic()
    note = Path(order["state_dir"], "watchdog.pid")
    if order.get("kill_watchdog") and note.exists():
        with suppress(ProcessLookupError):
            os.kill(int(note.read_text()), signal.SIGKILL)
    told = os.read(told_read, 65536)
    os.close(told_read)
    left = True
    while left and time.monotonic() - died < order.get("patience_s", 60):
        try:
            left = os.waitpid(-1, os.WNOHANG)[0] >= 0
            time.sleep(0.002)
        except ChildProcessError:
            left = False
    answer = {"killed": os.WIFSIGNALED(status), "left": left, "after_s": round(time.monotonic() - died, 3)}
    return answer | (json.loads(told) if told else {"calls": 0, "code": -9, "why": ""})


def main() -> None:
    """Serves orders until stdin ends."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)  # what a dead child leaves comes to us, so that its end is seen
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(carry_out(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
