"""``docker-limits``: CPU and memory of a running container, by ``docker update``.

Verified against a docker that plays replies written from its documentation, not against a running daemon. ``docker update`` cannot take a limit away again (0 means "leave it"), so
"no limit" is written as -1 and read as such. Sources: Docker CLI reference, "docker container update"; Engine API, ``HostConfig``.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from perfloop.change import cells, programs
from perfloop.change.base import ChangeContext, Note, hash_of, new_id
from perfloop.errors import ChangeRefused
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal
from perfloop.model.limits import parse_memory_bytes

ID = "docker-limits"
OPERATION = "resource_limit_change"
CPU_MIN, CPU_MAX = 0.1, 64.0
PERIOD_US = 100_000
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``container``, and ``cpu`` (cores, 0.1 to 64) or ``memory`` (128Mi to 512Gi), or both."""
    name = str(proposal.params.get("container", ""))
    if not _NAME.match(name):
        raise ChangeRefused(f"{name!r} is no name of a container", fix="docker ps")
    before = _read(name)
    after = dict(before)
    if "cpu" in proposal.params:
        cores = float(proposal.params["cpu"])
        if not CPU_MIN <= cores <= CPU_MAX:
            raise ChangeRefused(f"a CPU limit of {cores:g} cores is outside 0.1 to 64", fix="choose a value between them")
        after["nano_cpus" if before["nano_cpus"] > 0 else "cpu_quota_us"] = round(cores * (10**9 if before["nano_cpus"] > 0 else PERIOD_US))
    if "memory" in proposal.params:
        try:
            after["memory_bytes"] = parse_memory_bytes(str(proposal.params["memory"]))
        except ValueError as error:
            raise ChangeRefused("that is no memory limit", why=str(error), fix="memory = 512Mi") from None
        if before["memory_swap_bytes"] > 0:  # the swap limit counts both together: as much swap as before
            after["memory_swap_bytes"] = after["memory_bytes"] + before["memory_swap_bytes"] - before["memory_bytes"]
    if after == before:
        raise ChangeRefused(f"{name} has these limits already", why="there is nothing to change", fix="choose other values")
    commands = [shlex.join(_update(name, values, other)) for values, other in ((before, after), (after, before))]
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"container {name}: " + ", ".join(f"{key} {before[key]} → {after[key]}" for key in after if after[key] != before[key]),
        params={"container": name, "command": commands[1], "rollback_command": commands[0]},
        before={"limits": before},
        after={"limits": after},
        live_hash=hash_of(before),
        diff="\n".join(f"-{key} {before[key]}\n+{key} {after[key]}" for key in after if after[key] != before[key]),
        risk="a memory limit below what it needs ends its processes",
        reach=f"container {name}",
        safety=Safety.ASK,
        undo_commands=(commands[0],),
        apply_commands=(commands[1],),
        resources=(f"container:{name}",),
        lint=("it is forgotten when the container is made anew: set it where it is made too",),
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """The limits now; "no limit" is -1."""
    return cells.read([_cell(change)])


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """One ``docker update``."""
    cells.apply(change, [_cell(change)], note)


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """The daemon carries a request out whole or not at all."""


def verify(change: Change, context: ChangeContext) -> bool:
    """True where the daemon says the new limits."""
    return cells.holds([_cell(change)], change.after)


def undo(change: Change, context: ChangeContext) -> None:
    """The old limits, where the live ones are ours."""
    cells.undo(change, [_cell(change)])


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where the daemon says the old limits."""
    return cells.holds([_cell(change)], change.before)


def _cell(change: Change) -> cells.Cell:
    name = change.params["container"]

    def put(values: dict[str, int]) -> None:
        other = change.after["limits"] if values == change.before["limits"] else change.before["limits"]
        programs.run(_update(name, values, other), fix="docker ps; is the container running?")

    return cells.Cell("limits", lambda: _read(name), put)


def _read(name: str) -> dict[str, int]:
    text = programs.run(["docker", "inspect", "--type", "container", "--format", "{{json .HostConfig}}", name], fix="docker ps -a")
    try:
        config = json.loads(text)
        values = {
            "nano_cpus": config["NanoCpus"],
            "cpu_quota_us": config["CpuQuota"],
            "memory_bytes": config["Memory"],
            "memory_swap_bytes": config["MemorySwap"],
        }
        return {key: int(value) if int(value) > 0 else -1 for key, value in values.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ChangeRefused(f"docker tells the limits of {name} in a way that is not known", why=str(error), fix="docker inspect; report it") from None


def _update(name: str, values: dict[str, int], other: dict[str, int]) -> list[str]:
    """The command that makes ``values`` of ``other``: only what differs."""
    options: list[str] = []
    if values["nano_cpus"] != other["nano_cpus"]:
        options.append(f"--cpus={values['nano_cpus'] / 10**9:g}")
    if values["cpu_quota_us"] != other["cpu_quota_us"]:
        options += [f"--cpu-period={PERIOD_US}", f"--cpu-quota={values['cpu_quota_us']}"]
    if values["memory_bytes"] != other["memory_bytes"]:
        options += [f"--memory={values['memory_bytes']}", f"--memory-swap={values['memory_swap_bytes']}"]
    return ["docker", "update", *options, name]
