"""``workers``: how many workers gunicorn or uvicorn runs, by TTIN and TTOU to its master; forgotten when the service starts anew.

Sources: gunicorn documentation, "Signal handling"; uvicorn documentation, "Deployment, built-in process manager" (TTIN, TTOU, HUP).
"""

from __future__ import annotations

import os
import shlex
import signal
import time
from contextlib import suppress
from typing import Any

import psutil

from perfloop.change import cells, service
from perfloop.change.base import ChangeContext, Note, hash_of, new_id
from perfloop.errors import CannotMeasure, ChangeRefused
from perfloop.host.processes import start_time_s
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal

ID = "workers"
OPERATION = "setting_change"
WORKERS_MAX = 256
STEP_MAX_S = 20.0
STEADY_S = 0.3


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``workers`` (how many), and ``pid_file`` or ``pid`` of the master."""
    wanted = int(proposal.params.get("workers", 0))
    if not 1 <= wanted <= WORKERS_MAX:
        raise ChangeRefused(f"{wanted} workers are outside 1 to {WORKERS_MAX}", fix="choose a number between them")
    where = {
        key: str((context.base_dir / str(value)).absolute()) if key == "pid_file" else value
        for key, value in proposal.params.items()
        if key in ("pid_file", "pid")
    }
    master = service.pid_of(where)
    server = _server(master)
    old = _steady(master)
    if wanted == old:
        raise ChangeRefused(f"there are {old} workers already", why="there is nothing to change", fix="choose another number")
    pid = str(where.get("pid") or f"$(cat {shlex.quote(str(where['pid_file']))})")
    steps = {True: f"kill -TTIN {pid}", False: f"kill -TTOU {pid}"}
    count = abs(wanted - old)
    params = service.params_of(context.config, str(context.base_dir), restart=False) | {
        "master": master,
        "master_started_s": start_time_s(master),
        "server": server,
    }
    params |= {"command": f"{steps[wanted > old]}   # {count} times", "rollback_command": f"{steps[wanted < old]}   # {count} times"}
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"{server} workers: {old} → {wanted}",
        params=params,
        before={"workers": old},
        after={"workers": wanted},
        live_hash=hash_of([master, old]),
        diff=f"-{old} workers\n+{wanted} workers",
        risk="each worker takes memory and database connections of its own",
        reach="the service, all its processes",
        safety=Safety.SAFE,
        undo_commands=(steps[wanted < old],) * min(count, 16),
        apply_commands=(steps[wanted > old],) * min(count, 16),
        resources=(f"process:{master}",),
        lint=("it is forgotten at the next start: set it in the service's configuration too (kind config-file, signal HUP)",),
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """How many workers run; None where the master that was changed has ended."""
    return {"workers": _steady(change.params["master"]) if _same(change) else None}


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """One signal at a time, each waited for."""
    if not _same(change):
        raise ChangeRefused(f"not applied: {change.title}", why="the service was started anew since the plan", fix="make a new plan: perfloop plan")
    cells.apply(change, [_cell(change)], note)


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """A signal that was sent takes effect within a moment: waits until the number of workers is steady."""
    if backend and _same(change):
        _steady(change.params["master"])


def verify(change: Change, context: ChangeContext) -> bool:
    """True where so many workers run and the service is healthy."""
    return _same(change) and cells.holds([_cell(change)], change.after) and not service.unhealthy(change.params, context)


def undo(change: Change, context: ChangeContext) -> None:
    """The old number of workers; nothing is to be done for a service that was started anew: it has its own number again."""
    if _same(change):
        cells.undo(change, [_cell(change)])


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where the old number of workers runs, or the service was started anew, and it is healthy."""
    return (not _same(change) or cells.holds([_cell(change)], change.before)) and not service.unhealthy(change.params, context)


def _cell(change: Change) -> cells.Cell:
    master = change.params["master"]
    low, high = sorted((change.before["workers"], change.after["workers"]))

    def put(count: int) -> None:
        deadline = time.monotonic() + STEP_MAX_S * (high - low + 1)
        while (now := _steady(master)) != count:
            if time.monotonic() > deadline:
                raise CannotMeasure(f"there are {now} workers, not {count}", why="the master does not follow its signals", fix="look at its log")
            try:
                os.kill(master, signal.SIGTTIN if now < count else signal.SIGTTOU)
            except OSError as error:
                raise CannotMeasure("the service could not be signalled", why=str(error), fix="run perfloop as the service's user") from None
            _await_other(master, now)

    return cells.Cell("workers", lambda: _steady(master), put, ours=lambda live: low <= live <= high)


def _server(master: int) -> str:
    with suppress(psutil.Error):
        words = " ".join(psutil.Process(master).cmdline())
        for name in ("gunicorn", "uvicorn"):
            if name in words:
                return name
    raise ChangeRefused(
        f"process {master} is no gunicorn or uvicorn with workers",
        why="only their masters know TTIN and TTOU",
        fix="change its configuration: kind config-file",
    )


def _same(change: Change) -> bool:
    return bool(start_time_s(change.params["master"]) == change.params["master_started_s"])


def _count(master: int) -> int:
    """Living workers; the resource tracker that Python's multiprocessing starts beside them is none."""
    count = 0
    with suppress(psutil.Error):
        for child in psutil.Process(master).children():
            with suppress(psutil.Error):
                count += child.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(child.cmdline())
    return count


def _steady(master: int) -> int:
    """The number of workers once it has not changed for a moment."""
    deadline = time.monotonic() + STEP_MAX_S
    last, since = _count(master), time.monotonic()
    while time.monotonic() - since < STEADY_S and time.monotonic() < deadline:
        time.sleep(0.05)
        now = _count(master)
        if now != last:
            last, since = now, time.monotonic()
    return last


def _await_other(master: int, count: int) -> None:
    deadline = time.monotonic() + STEP_MAX_S
    while _count(master) == count and time.monotonic() < deadline:
        time.sleep(0.02)
