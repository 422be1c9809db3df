"""Limits and throttling by control groups, version 1 and 2. A limit is the tightest on the way up; None where there is none or it cannot be seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_Number = TypeVar("_Number", int, float)
_NO_LIMIT_BYTES = 2**60  # version 1 tells "no limit" as a number near 2^63


@dataclass(frozen=True)
class Limits:
    """What the control group of a process allows it."""

    path: str = ""
    cpu_cores: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Throttling:
    """Since the group was made: periods of the CPU quota, those in which it ran out, and seconds that its threads were stopped for it."""

    periods: int
    throttled_periods: int
    throttled_s: float


def limits(pid: int) -> Limits:
    """CPU and memory limits of a process."""
    cpu: float | None = None
    memory: int | None = None
    for folder in _folders(pid, "cpu"):
        cpu = _least(cpu, _cpu_cores(folder))
    for folder in _folders(pid, "memory"):
        memory = _least(memory, _memory_bytes(folder))
    groups = _groups(pid)
    path = groups.get("memory", "/").strip("/") or groups.get("cpu", "/").strip("/") or groups.get("", "/").strip("/")
    return Limits("/" + path if path else "/", cpu, memory)


def throttling(pid: int) -> Throttling | None:
    """How often the CPU quota stopped the process's group (of those with a quota, the nearest); None where no quota applies."""
    for folder in _folders(pid, "cpu"):
        if _cpu_cores(folder) is None:
            continue
        stat = {name: int(value) for name, _, value in (line.partition(" ") for line in _text(folder / "cpu.stat").splitlines()) if value.strip().isdigit()}
        if "nr_periods" in stat:
            seconds = stat["throttled_usec"] / 1e6 if "throttled_usec" in stat else stat.get("throttled_time", 0) / 1e9
            return Throttling(stat["nr_periods"], stat.get("nr_throttled", 0), seconds)
    return None


@dataclass(frozen=True)
class Memory:
    """Of the nearest group with a memory limit: the limit, use now (page cache included), times the limit was hit, and kills for lack of memory, since it was made."""

    limit_bytes: int
    used_bytes: int | None
    limit_hits: int | None
    oom_kills: int | None


def memory(pid: int) -> Memory | None:
    """Memory of the process's group (of those with a limit, the nearest); None where no limit applies."""
    for folder in _folders(pid, "memory"):
        limit = _memory_bytes(folder)
        if limit is None:
            continue
        events = _numbers(folder / "memory.events") or _numbers(folder / "memory.oom_control")
        hits = events.get("max") if "max" in events else _number(folder / "memory.failcnt")
        used = _number(folder / "memory.current")
        return Memory(limit, used if used is not None else _number(folder / "memory.usage_in_bytes"), hits, events.get("oom_kill"))
    return None


def processes(pid: int) -> tuple[int, int] | None:
    """(tasks now, limit) of the nearest group that bounds them; None where nothing does."""
    for folder in _folders(pid, "pids"):
        limit, now = _number(folder / "pids.max"), _number(folder / "pids.current")
        if limit is not None and now is not None:
            return now, limit
    return None


def version(pid: int) -> int:
    """The version of the control groups that bound the process's CPU: 1 or 2; 0 where there are none."""
    groups = _groups(pid)
    return 1 if "cpu" in groups else 2 if "" in groups else 0


def _numbers(path: Path) -> dict[str, int]:
    pairs = (line.partition(" ") for line in _text(path).splitlines())
    return {name: int(value) for name, _, value in pairs if value.strip().isdigit()}


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def folder(pid: int, controller: str) -> Path | None:
    """The folder of the process's own group for a controller; None where it is in the top one, or cannot be seen."""
    found = _folders(pid, controller)
    return found[0] if len(found) > 1 else None


def own(pid: int, controller: str) -> Path | None:
    """The folder of the process's own group for a controller, the top one included; None where it cannot be seen."""
    found = _folders(pid, controller)
    return found[0] if found else None


def members(group: Path) -> tuple[int, ...]:
    """The processes in a group, by pid."""
    return tuple(sorted(int(line) for line in _text(group / "cgroup.procs").split() if line.isdigit()))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _least(one: _Number | None, other: _Number | None) -> _Number | None:
    return other if one is None else one if other is None else min(one, other)


def _groups(pid: int) -> dict[str, str]:
    """Controller → path; the unified hierarchy under the empty name."""
    found = {}
    for line in _text(Path(f"/proc/{pid}/cgroup")).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        for name in controllers.split(","):
            found[name] = path
    return found


def _mounts() -> Iterator[tuple[str, str, str, set[str]]]:
    """(type, root, mount point, options) of each mounted hierarchy."""
    for line in _text(Path("/proc/self/mountinfo")).splitlines():
        left, dash, right = line.partition(" - ")
        fields, rest = left.split(), right.split()
        if dash and len(fields) >= 5 and rest and rest[0] in ("cgroup", "cgroup2"):
            yield rest[0], fields[3], fields[4], set(rest[-1].split(","))


def _folders(pid: int, controller: str) -> list[Path]:
    """Folders of the process's group for a controller, from its own up to the mount point."""
    groups = _groups(pid)
    for kind, root, mount, options in _mounts():
        if (kind == "cgroup2" and controller not in groups) or (kind == "cgroup" and controller in options and controller in groups):
            path = groups.get(controller, groups.get("", "/")) if kind == "cgroup" else groups.get("", "/")
            if path.startswith("/.."):  # a group outside our namespace
                return []
            if root != "/" and path.startswith(root):  # a container sees its own group as the mount's root
                path = path[len(root) :]
            top = Path(mount)
            folder = top / path.strip("/")
            if not folder.is_dir():
                folder = top
            return [folder, *(parent for parent in folder.parents if parent == top or top in parent.parents)]
    return []


def _cpu_cores(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    try:
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except ValueError:  # "max", or no such file
        return None


def _memory_bytes(folder: Path) -> int | None:
    text = _text(folder / "memory.max") or _text(folder / "memory.limit_in_bytes")
    return int(text) if text.isdigit() and int(text) < _NO_LIMIT_BYTES else None
