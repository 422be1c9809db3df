"""``cgroup-limit``: the CPU or memory that a control group may use, in version 1 and 2; it lasts while the group does.

Memory limits are whole pages, so a wanted size is rounded down before it is applied. Sources: kernel documentation, "cgroup-v1/memory",
"scheduler/sched-bwc", "admin-guide/cgroup-v2".
"""

from __future__ import annotations

import errno
import math
import os
import shlex
from pathlib import Path
from typing import Any

from perfloop.change import cells
from perfloop.change.base import ChangeContext, Note, hash_of, new_id
from perfloop.errors import ChangeRefused
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal
from perfloop.model.limits import parse_memory_bytes

ID = "cgroup-limit"
OPERATION = "resource_limit_change"
CPU_MIN, CPU_MAX = 0.1, 64.0
PERIOD_US = 100_000


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``group`` (its folder), and ``cpu`` (cores, 0.1 to 64) or ``memory`` (128Mi to 512Gi)."""
    group = Path(str(proposal.params.get("group", ""))).absolute()
    if not str(group).startswith("/sys/fs/cgroup/") or not (group / "cgroup.procs").exists():
        raise ChangeRefused(f"{group} is no control group", fix="name a folder below /sys/fs/cgroup that processes are in")
    file, new = _file_and_value(proposal.params, group)
    old = _get(file)
    if old == new:
        raise ChangeRefused(f"{file.name} is already {old}", why="there is nothing to change", fix="choose another value")
    commands = [f"echo {shlex.quote(value)} > {shlex.quote(str(file))}" for value in (old, new)]
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"{file.name} of {group.name}: {old} → {new}",
        params={"file": str(file), "command": commands[1], "rollback_command": commands[0]},
        before={"limit": old},
        after={"limit": new},
        live_hash=hash_of([str(file), old]),
        diff=f"-{file.name} {old}\n+{file.name} {new}",
        risk="a limit below what it needs slows it down" if "cpu" in file.name else "a limit below what it uses ends processes of the group",
        reach=f"all processes of {group}",
        safety=Safety.ASK,
        undo_commands=(commands[0],),
        apply_commands=(commands[1],),
        resources=(f"cgroup:{group}",),
        lint=("it is forgotten when the group ends: set it where the group is made too",),
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """The limit, as the kernel writes it."""
    return cells.read([_cell(change)])


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Sets it."""
    cells.apply(change, [_cell(change)], note)


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Nothing goes on running."""


def verify(change: Change, context: ChangeContext) -> bool:
    """True where the kernel says the new limit."""
    return cells.holds([_cell(change)], change.after)


def undo(change: Change, context: ChangeContext) -> None:
    """The old limit; nothing is to be done for a group that has ended."""
    if Path(change.params["file"]).exists():
        cells.undo(change, [_cell(change)])


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where the kernel says the old limit, or the group has ended and its limit with it."""
    return not Path(change.params["file"]).exists() or cells.holds([_cell(change)], change.before)


def _file_and_value(params: dict[str, Any], group: Path) -> tuple[Path, str]:
    if "cpu" in params:
        cores = float(params["cpu"])
        if not CPU_MIN <= cores <= CPU_MAX:
            raise ChangeRefused(f"a CPU limit of {cores:g} cores is outside 0.1 to 64", fix="choose a value between them")
        if (group / "cpu.max").exists():
            period = int(_get(group / "cpu.max").split()[1])
            return group / "cpu.max", f"{round(cores * period)} {period}"
        period = int(_get(group / "cpu.cfs_period_us"))
        return group / "cpu.cfs_quota_us", str(round(cores * period))
    try:
        size = parse_memory_bytes(str(params.get("memory", "")))
    except ValueError as error:
        raise ChangeRefused("the proposal names no limit", why=str(error), fix="cpu = 1.5 or memory = 512Mi") from None
    page = os.sysconf("SC_PAGE_SIZE")
    file = group / ("memory.max" if (group / "memory.max").exists() else "memory.limit_in_bytes")
    used = group / ("memory.current" if file.name == "memory.max" else "memory.usage_in_bytes")
    if used.exists() and int(_get(used)) > size:
        raise ChangeRefused(
            f"the group uses {math.ceil(int(_get(used)) / 2**20)} MiB already", why=f"the limit would be {size // 2**20} MiB", fix="choose a larger one"
        )
    return file, str(size // page * page)


def _cell(change: Change) -> cells.Cell:
    file = Path(change.params["file"])

    def put(value: str) -> None:
        # version 1 reads "no limit" back as the largest whole number of pages, and takes it as -1
        text = "-1" if file.name == "memory.limit_in_bytes" and int(value) >= 2**62 else value
        try:
            with file.open("wb", buffering=0) as target:
                target.write(text.encode())
        except OSError as error:
            why = "the group uses more than that" if error.errno == errno.EBUSY else error.strerror or str(error)
            raise ChangeRefused(f"{file.name} could not be set to {value}", why=why, fix="choose another value, or run perfloop as root") from None

    return cells.Cell("limit", lambda: _get(file), put)


def _get(file: Path) -> str:
    try:
        return " ".join(file.read_text().split())
    except OSError as error:
        raise ChangeRefused(f"cannot read {file}", why=error.strerror or str(error), fix="name a group whose controller is switched on") from None
