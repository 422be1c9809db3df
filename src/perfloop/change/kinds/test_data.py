"""``test-data``: what a load test needs in the target before it runs, and its removal afterwards, by the configured hooks.

Preparing data changes the target, so it is a change like any other: journalled before it starts, watched while it is there, and removed whatever happens: after the
test, after a failure, Ctrl-C, or when perfloop is killed. The hooks are your commands; ``tear_down`` must be safe to run twice, and on data half prepared.
"""

from __future__ import annotations

import os
import shlex
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from perfloop.change.base import ChangeContext, Note, new_id
from perfloop.change.service import MARK
from perfloop.errors import ChangeRefused, UndoFailed
from perfloop.host.command import Completed, run_command
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal

ID = "test-data"
OPERATION = "test_data_preparation"
SIZE = "PERFLOOP_SIZE"


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``size``, which replaces ``{size}`` in the commands; the commands are the configuration's."""
    hooks = context.config.hooks
    if not hooks.set_up and not hooks.tear_down:
        raise ChangeRefused("there is no data to prepare", why="hooks.set_up is empty", fix="set hooks.set_up and hooks.tear_down in perfloop.toml")
    size = proposal.params.get("size")
    set_up, tear_down = (filled(command, size) for command in (hooks.set_up, hooks.tear_down))
    params = {
        "set_up": set_up,
        "tear_down": tear_down,
        "size": size,
        "cwd": str(Path(context.base_dir).absolute()),
        "timeout_s": hooks.timeout_s,
        "command": set_up,
        "rollback_command": tear_down or None,
    }
    return Change(
        id=new_id(),
        kind=ID,
        title="test data" if size is None else f"test data of size {size:g}",
        params=params,
        risk="the commands are yours: what they touch is changed",
        reach="what hooks.set_up writes to",
        safety=Safety.SAFE,
        apply_commands=(set_up,) if set_up else (),
        undo_commands=(tear_down,) if tear_down else (),
        resources=(f"hook:{shlex.split(set_up or tear_down)[0]}",),
    )


def filled(command: str, size: float | None) -> str:
    """The command with ``{size}`` replaced."""
    return command if size is None else command.replace("{size}", f"{size:.15g}")


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """Nothing is known of what the hooks touch."""
    del change, context
    return {}


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Runs ``set_up``; ``ChangeRefused`` with its last words where it fails."""
    del context
    if not change.params["set_up"]:
        return
    note({"command": change.params["set_up"]})
    done = _run(change, "set_up")
    if not done.ok:
        raise ChangeRefused(f"the data could not be prepared: {change.params['set_up']}", why=_words(change, done), fix="run it by hand and correct it")


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Ends a ``set_up`` that a killed perfloop left running, by the mark in its environment."""
    del backend, context
    until = time.monotonic() + 10
    while (left := _running(change)) and time.monotonic() < until:
        for process in left:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)  # it leads a group of its own
        time.sleep(0.05)


def verify(change: Change, context: ChangeContext) -> bool:
    """The command ended with status 0: nothing more is known of what it did."""
    del change, context
    return True


def undo(change: Change, context: ChangeContext) -> None:
    """Runs ``tear_down``; ``UndoFailed`` where it fails."""
    del context
    if not change.params["tear_down"]:
        return
    done = _run(change, "tear_down")
    if not done.ok:
        raise UndoFailed(f"the test data could not be removed: {change.params['tear_down']}", why=_words(change, done), commands=change.undo_commands)


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """``tear_down`` ended with status 0, and no ``set_up`` of ours runs any more."""
    del context
    return not _running(change)


def _run(change: Change, hook: str) -> Completed:
    size = change.params["size"]
    mark = {MARK: change.id} if hook == "set_up" else {}
    env = {**os.environ, **mark, **({SIZE: f"{size:.15g}"} if size is not None else {})}
    return run_command(change.params[hook], cwd=change.params["cwd"], timeout_s=change.params["timeout_s"], env=env)


def _words(change: Change, done: Completed) -> str:
    how = f"it took longer than {change.params['timeout_s']:g} s" if done.timed_out else f"it ended with status {done.returncode}"
    return f"{how}: {(done.stderr or done.stdout).strip()[-500:]}"


def _running(change: Change) -> list[psutil.Process]:
    """The ``set_up`` command itself where it still runs: by its arguments and our mark; what it left in the background is the tear_down's to end."""
    argv = shlex.split(change.params["set_up"]) if change.params["set_up"] else []
    found = []
    for process in psutil.process_iter() if argv else ():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.cmdline()[-len(argv) :] == argv and process.environ().get(MARK) == change.id:
                found.append(process)
    return found
