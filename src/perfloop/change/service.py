"""The service around a changed setting: restarted by the configured command, healthy again, and really a new process."""

from __future__ import annotations

import os
import shlex
import signal
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import psutil

from perfloop.change.base import ChangeContext
from perfloop.errors import CannotMeasure, PerfloopError
from perfloop.host.http import fetch
from perfloop.host.processes import is_local, listening_pids, run_command, start_time_s
from perfloop.model.config import Config

#: a restart that leaves the very same processes listening is believed (a reload in place) after this long
RELOAD_IN_PLACE_S = 5.0
#: marks the command's own process, so that a later process can tell whether it still runs
MARK = "PERFLOOP_CHANGE"


def params_of(config: Config, base_dir: str, restart: bool) -> dict[str, Any]:
    """All that restarting and asking for health needs, to be kept in ``Change.params``; header values stay references."""
    target = config.target
    path = target.health_path or next(
        (journey.path or journey.paths[0] for journey in config.journeys if journey.method == "GET" and "{" not in (journey.path or "")), "/"
    )
    return {
        "restart_command": target.restart_command if restart else "",
        "restart_cwd": base_dir,
        "restart_timeout_s": target.restart_timeout_s,
        "health_url": target.url.rstrip("/") + "/" + path.lstrip("/") if target.url else "",
        "health_strict": bool(target.health_path),
        "health_headers": dict(target.headers),
        "ca_file": target.ca_file,
    }


def restart(change_id: str, params: dict[str, Any], context: ChangeContext) -> None:
    """Runs the restart command and waits until the service answers from a new process; ``CannotMeasure`` with the command's last words where it does not."""
    before = _listeners(params)
    completed = run_command(params["restart_command"], cwd=params["restart_cwd"], timeout_s=params["restart_timeout_s"], env={**os.environ, MARK: change_id})
    if not completed.ok:
        how = f"it took longer than {params['restart_timeout_s']:g} s" if completed.timed_out else f"it ended with status {completed.returncode}"
        raise CannotMeasure(
            f"the restart command failed: {params['restart_command']}",
            why=f"{how}: {(completed.stderr or completed.stdout).strip()[-500:]}",
            fix="run it by hand and correct it",
        )
    started = time.monotonic()
    reason = "it did not answer"
    while (waited_s := time.monotonic() - started) < params["restart_timeout_s"]:
        if waited_s >= RELOAD_IN_PLACE_S or not before or not before & _listeners(params):
            reason = unhealthy(params, context)
            if not reason:
                return
        time.sleep(0.1)
    raise CannotMeasure(
        f"the service is not healthy {params['restart_timeout_s']:g} s after its restart",
        why=reason,
        fix=f"look at its log; restart it by hand: {params['restart_command']}",
    )


def unhealthy(params: dict[str, Any], context: ChangeContext) -> str:
    """Why the service is not healthy; empty where it is, or where nothing is known by which to ask."""
    if not params["health_url"]:
        return ""
    try:
        headers = [(name, context.resolve(value) if value.startswith(("env:", "file:")) else value) for name, value in params["health_headers"].items()]
        status = fetch(params["health_url"], headers=headers, timeout_s=5.0, ca_file=params["ca_file"]).status
    except PerfloopError as error:
        return f"{error.what}: {error.why}"
    bad = status >= 300 if params["health_strict"] else status >= 500
    return f"{params['health_url']} answers {status}" if bad else ""


def end_running_restart(change_id: str, params: dict[str, Any]) -> None:
    """Waits for a restart command that a killed process of ours left running, so that two never run at once; ended by force after its time."""
    argv = shlex.split(params["restart_command"])
    deadline = time.monotonic() + params["restart_timeout_s"]
    while running := _running(change_id, argv):
        if time.monotonic() >= deadline:
            for process in running:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)  # its own session and group: the pid is the group's id
        time.sleep(0.05)
        if time.monotonic() >= deadline + 10:
            raise CannotMeasure(
                f"an earlier restart command still runs: {params['restart_command']}",
                why=f"process {running[0].pid} cannot be ended",
                fix=f"end it by hand: kill -9 {running[0].pid}",
            )


def _running(change_id: str, argv: list[str]) -> list[psutil.Process]:
    """Processes that are the restart command itself: by its arguments, our mark in its environment, and leading a group of their own."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.cmdline()[-len(argv) :] == argv and process.environ().get(MARK) == change_id and os.getpgid(process.pid) == process.pid:
                found.append(process)
    return [process for process in found if process.is_running() and process.pid != os.getpid()]


def _listeners(params: dict[str, Any]) -> set[tuple[int, float | None]]:
    """The processes that listen at the service's address, with their start; empty for a service elsewhere."""
    parts = urlsplit(params["health_url"])
    if not parts.hostname or not is_local(parts.hostname):
        return set()
    return {(pid, start_time_s(pid)) for pid in listening_pids(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))}
