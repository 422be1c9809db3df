"""Limits that no change may break, checked on the live system right before it is made: memory, open files, ports.

A memory model, not a guess at the average: what the server may take when every connection uses what it is allowed to. Nine tenths of the
memory are the bound. Where the memory of its host cannot be known, a change that needs more of it is refused.
Source: PostgreSQL manual, "Resource Consumption": each sort or hash of each session may use ``work_mem`` (times ``hash_mem_multiplier`` for hashes).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil

from perfloop.change.base import ChangeContext
from perfloop.change.postgres import connected
from perfloop.errors import CannotMeasure, PerfloopError
from perfloop.host import cgroup, machine
from perfloop.host.processes import is_local
from perfloop.model.change import Change
from perfloop.sql.redis import connect_redis

MEMORY_SHARE_MAX = 0.9
_SIZES = {"": 1, "B": 1, "kB": 1024, "8kB": 8192, "MB": 1024**2, "GB": 1024**3}
_MEMORY = (
    "shared_buffers",
    "work_mem",
    "maintenance_work_mem",
    "hash_mem_multiplier",
    "max_connections",
    "autovacuum_max_workers",
    "wal_buffers",
    "temp_buffers",
)


def broken_limit(change: Change, context: ChangeContext) -> str:
    """Why this change would break a hard limit; empty where it would not."""
    check = _CHECKS.get(change.kind)
    try:
        return check(change, context) if check else ""
    except PerfloopError as error:
        return f"whether it keeps the limits cannot be told: {error.what}" + (f" ({error.why})" if error.why else "")


def postgres_bytes(settings: dict[str, float]) -> float:
    """The most that a server with these settings (bytes and counts) may take."""
    per_session = settings["work_mem"] * max(1.0, settings["hash_mem_multiplier"]) + settings["temp_buffers"]
    upkeep = settings["maintenance_work_mem"] * settings["autovacuum_max_workers"]
    return settings["shared_buffers"] + settings["wal_buffers"] + settings["max_connections"] * per_session + upkeep


def _postgres(change: Change, context: ChangeContext) -> str:
    name = change.params["name"]
    if name not in _MEMORY:
        return ""
    with connected(change.params["dsn_ref"], context, "limits") as connection:
        rows = connection.execute("SELECT name, setting, unit FROM pg_catalog.pg_settings WHERE name = ANY(%s)", (list(_MEMORY),)).fetchall()
        host = connection.info.host or ""
    units = {row[0]: _SIZES[row[2] or ""] for row in rows}
    now = {row[0]: float(row[1]) * units[row[0]] for row in rows}
    then = now | {name: float(change.after["running"]) * units[name]}
    now, then = ({"hash_mem_multiplier": 1.0, **settings} for settings in (now, then))  # PostgreSQL 12 has none
    if postgres_bytes(then) <= postgres_bytes(now):
        return ""
    if host and not host.startswith(("/", "@")) and not is_local(host):
        return f"the memory of {host} is not known from here"
    return _beyond(postgres_bytes(then), machine.memory()["MemTotal"], f"with {name} so, all {then['max_connections']:g} connections together")


def _redis(change: Change, context: ChangeContext) -> str:
    import redis

    name = change.params["name"]
    if name != "maxmemory":
        return ""
    client = connect_redis(context.resolve(change.params["dsn_ref"]))
    try:
        told: Any = client.info("memory")
    except redis.RedisError as error:
        raise CannotMeasure("Redis did not tell its memory", why=type(error).__name__) from None
    finally:
        client.close()
    wanted = int(change.after["running"])
    if 0 < wanted < int(told["used_memory"]):
        return f"it holds {_mib(told['used_memory'])} already: keys would be evicted at once, which no undo brings back"
    return _beyond(wanted or told["used_memory"], int(told.get("total_system_memory", 0)), "its data")


def _workers(change: Change, context: ChangeContext) -> str:
    """Each new worker takes what the largest of the old ones has for itself."""
    master, more = change.params["master"], change.after["workers"] - change.before["workers"]
    own = [0]
    with suppress(psutil.Error):
        for child in psutil.Process(master).children():
            with suppress(psutil.Error):
                own.append(child.memory_full_info().uss)
    group, whole = cgroup.memory(master), machine.memory()
    total = group.limit_bytes if group else whole["MemTotal"]
    used = (group.used_bytes or 0) if group else whole["MemTotal"] - whole["MemAvailable"]
    where = "its control group" if group else "this machine"
    return _beyond(used + max(0, more) * max(own), total, f"with {change.after['workers']} workers, all in {where}")


def _nginx(change: Change, context: ChangeContext) -> str:
    """A connection that is passed on takes two descriptors."""
    if not change.params["key"].endswith("worker_connections") or not str(change.params["new"] or "").isdigit():
        return ""
    try:
        pid = int(re.sub(r"\D", "", open(change.params["pid_file"]).read()))  # noqa: SIM115, PTH123 -- read at once
        soft = psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE)[1]
    except (OSError, ValueError, psutil.Error) as error:
        raise CannotMeasure("the limit of open files of nginx is not known", why=str(error)) from None
    needed = 2 * int(change.params["new"])
    return f"its workers may open {soft} files, and would need {needed}" if soft not in (-1, psutil.RLIM_INFINITY) and needed > soft else ""


def _file(change: Change, context: ChangeContext) -> str:
    """A port must be free, or be the service's own."""
    key, new = str(change.params.get("key", "")), change.params.get("new")
    if not re.search(r"(^|[._-])port$", key, re.I) or not isinstance(new, int):
        return ""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return f"port {new} is in use" if probe.connect_ex(("127.0.0.1", new)) == 0 else ""


def _beyond(needed: float, total: float, what: str) -> str:
    if not total:
        return "the memory of its host is not known"
    return f"{what} may take {_mib(needed)}, above {MEMORY_SHARE_MAX:.0%} of {_mib(total)}" if needed > MEMORY_SHARE_MAX * total else ""


def _mib(count: float) -> str:
    return f"{count / 2**20:,.0f} MiB"


_CHECKS: dict[str, Callable[[Change, ChangeContext], str]] = {
    "postgres-setting": _postgres,
    "redis-setting": _redis,
    "workers": _workers,
    "nginx-setting": _nginx,
    "config-file": _file,
    "app-setting": _file,
}
