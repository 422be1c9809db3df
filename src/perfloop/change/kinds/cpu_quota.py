"""``cpu-quota``: the service's processes in a control group of their own with less CPU, for an experiment (version 1; version 2 allows no group inside a group with processes).

The group lies inside the one that they are in, so that limits which hold already go on to hold. Source: kernel documentation, "scheduler/sched-bwc".
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from perfloop.change.base import ChangeContext, Note, new_id
from perfloop.errors import ChangeRefused, UndoFailed
from perfloop.host import cgroup
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal

ID = "cpu-quota"
OPERATION = "experiment_cpu_quota"
#: an experiment of some seconds: its own undo is the rehearsal
COSTLY = True
CPU_MIN, CPU_MAX, PERIOD_US = 0.1, 64.0, 100_000


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``pids`` of the service, ``cpu`` (cores, 0.1 to 64)."""
    pids, cores = [int(pid) for pid in proposal.params.get("pids", ())], float(proposal.params.get("cpu", 0.0))
    if not CPU_MIN <= cores <= CPU_MAX:
        raise ChangeRefused(f"a CPU limit of {cores:g} cores is outside 0.1 to 64", fix="choose a value between them")
    parents = {str(cgroup.own(pid, "cpu") or "") for pid in pids}
    if len(parents) != 1 or "" in parents or any(cgroup.version(pid) != 1 for pid in pids):
        raise ChangeRefused(
            "no CPU quota can be put on the service here",
            why="its processes are not in one control group of version 1",
            fix="pin it to one core: then a competitor takes CPU from it",
        )
    change_id = new_id()
    group = Path(parents.pop()) / f"perfloop-{change_id}"
    quota = round(cores * PERIOD_US)
    name = shlex.quote(str(group))
    enter = [f"mkdir {name}", f"echo {quota} > {name}/cpu.cfs_quota_us", *(f"echo {pid} > {name}/cgroup.procs" for pid in pids)]
    leave = [f"for pid in $(cat {name}/cgroup.procs); do echo $pid > {shlex.quote(str(group.parent))}/cgroup.procs; done", f"rmdir {name}"]
    return Change(
        id=change_id,
        kind=ID,
        title=proposal.title or f"{cores:g} cores for the service, for an experiment",
        params={"group": str(group), "pids": pids, "quota": quota, "command": "; ".join(enter), "rollback_command": "; ".join(leave)},
        before={"quota": None},
        after={"quota": quota},
        risk="the service is slower while it lasts",
        reach="the service, all its processes",
        safety=Safety.SAFE,
        undo_commands=tuple(leave),
        apply_commands=tuple(enter),
        resources=(f"cgroup:{group}",),
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """The quota of our group; None where there is no such group."""
    file = Path(change.params["group"]) / "cpu.cfs_quota_us"
    return {"quota": int(file.read_text()) if file.exists() else None}


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Makes the group and moves the processes there."""
    group = Path(change.params["group"])
    note({"type": "cgroup", "group": str(group)})
    try:
        group.mkdir(exist_ok=True)
        for key in ("cpuset.cpus", "cpuset.mems"):  # where cpuset shares the hierarchy, a new group has none
            if (group / key).exists():
                (group / key).write_text((group.parent / key).read_text())
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(change.params["quota"]))
        for pid in change.params["pids"]:
            (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        raise ChangeRefused(f"not applied: {change.title}", why=error.strerror or str(error), fix="run perfloop as root, outside a container") from error


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Nothing goes on running."""


def verify(change: Change, context: ChangeContext) -> bool:
    """True where the quota holds for every process."""
    members = cgroup.members(Path(change.params["group"]))
    return read(change, context) == change.after and all(pid in members for pid in change.params["pids"])


def undo(change: Change, context: ChangeContext) -> None:
    """All processes back where they were, and the group is gone."""
    group = Path(change.params["group"])
    try:
        while group.exists() and (pids := cgroup.members(group)):  # children that were born meanwhile too
            for pid in pids:
                try:
                    (group.parent / "cgroup.procs").write_text(str(pid))
                except ProcessLookupError:
                    pass
        if group.exists():
            group.rmdir()
    except OSError as error:
        raise UndoFailed(f"could not undo: {change.title}", why=error.strerror or str(error), commands=change.undo_commands) from error


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where the group is gone."""
    return not Path(change.params["group"]).exists()
