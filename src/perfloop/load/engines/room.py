"""What a load generator needs of its machine before it starts: a core, open files, local ports, and not to wait behind others."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import Any

from perfloop.load.engines.pool import OursError

FILES_SPARE = 64
REALTIME_RATE_MAX_PER_S = 5_000  # about a tenth of a core
_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_PORTS_USUAL = 28_232


def make_room(plan: dict[str, Any]) -> None:
    """Own core, open files, priority; ``OursError`` says what is too little, before any request."""
    if plan["cpu"] is not None and hasattr(os, "sched_setaffinity"):
        try:
            os.sched_setaffinity(0, {plan["cpu"]})
        except OSError as error:
            raise OursError(f"cannot run on core {plan['cpu']}: {error}", "choose a core that this process may use (taskset -p)") from error
    _hurry(plan["users"] == 0 and rate_max_per_s(plan) <= REALTIME_RATE_MAX_PER_S)
    users = users_of(plan) if owns(plan) and plan["users"] else 0
    _open_files(max(plan["connections_max"], users) + FILES_SPARE, users)


def rate_max_per_s(plan: dict[str, Any]) -> float:
    """The highest rate that a plan of open load asks for, of all its shards together."""
    return float(max([plan["rate_per_s"], *(stage["level"] for stage in plan["stages"])]))


def processes_needed(users: int) -> int:
    """How many processes it takes to hold a connection for each of these users, by the limit of open files."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or users + FILES_SPARE <= hard or _may_raise(users + FILES_SPARE):
        return 1
    return -(-users // max(1, hard - FILES_SPARE))


def ports_missing(users: int, sources: int) -> int:
    """How many local ports there are, where that is too few for a connection each; 0 where it is enough."""
    ports = _ports() * max(1, sources)
    return ports if users > ports else 0


def owns(plan: dict[str, Any]) -> bool:
    """True where each user has a connection of its own."""
    return bool(plan["users"] > 0 if plan["own_connection"] is None else plan["own_connection"])


def users_of(plan: dict[str, Any]) -> int:
    """How many users are this shard's."""
    shard = plan["shard"]
    return int((plan["users"] - shard["index"] + shard["count"] - 1) // shard["count"])


def _open_files(wanted: int, needed: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    for limits in ((wanted, max(wanted, hard)), (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            break
        except (OSError, ValueError):
            continue
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if needed and soft != resource.RLIM_INFINITY and soft < needed + FILES_SPARE:
        raise OursError(
            f"{needed} users with a connection each need {needed + FILES_SPARE} open files; the limit is {soft}",
            f"raise it (ulimit -Hn {needed + FILES_SPARE} as root, or LimitNOFILE of the unit), or run fewer users",
        )


def _may_raise(wanted: int) -> bool:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[0], wanted))
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    except (OSError, ValueError):
        return False
    return True


def _ports() -> int:
    try:
        low, high = (int(word) for word in _PORTS.read_text().split())
    except (OSError, ValueError):
        return _PORTS_USUAL
    return high - low + 1


def _hurry(realtime: bool) -> None:
    """Asks not to wait behind other processes, where that is permitted; refused, the lateness that is recorded tells.

    Beside a busy process on its core a generator of normal or raised priority starts requests up to 4 ms late, a real-time one none above 0.8 ms.
    At high rates it could keep the core from everybody else, so there only the priority is raised. Where our parent is a real-time process
    already we go before it: on one core with it, what it reads each second would hold up what is due.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    if not hasattr(os, "sched_setscheduler"):
        return
    with suppress(OSError):
        inherited = os.sched_getparam(0).sched_priority
        if inherited:
            os.sched_setparam(0, os.sched_param(min(inherited + 1, os.sched_get_priority_max(os.SCHED_RR))))
        elif realtime:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
