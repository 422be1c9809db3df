"""The service around a changed setting: restarted or reloaded by command or signal, healthy again, and after a restart really a new process."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from perfloop.change.base import ChangeContext, absolute_reference
from perfloop.errors import CannotMeasure, PerfloopError
from perfloop.host.http import fetch
from perfloop.host.processes import is_local, listening_pids, run_command, start_time_s
from perfloop.model.config import Config

#: a restart that leaves the very same processes listening is believed (a reload in place) after this long
RELOAD_IN_PLACE_S = 5.0
#: marks the command's own process, so that a later process can tell whether it still runs
MARK = "PERFLOOP_CHANGE"


def params_of(config: Config, base_dir: str, restart: bool, proposed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All that activating a change and asking for health needs, to be kept in ``Change.params``; header values stay references.

    ``proposed`` (a proposal's params) may name another ``restart_command``, a ``reload_command``, or a ``reload_signal`` with ``pid_file`` or ``pid``.
    """
    target, proposed = config.target, proposed or {}
    path = target.health_path or next(
        (journey.path or journey.paths[0] for journey in config.journeys if journey.method == "GET" and "{" not in (journey.path or "")), "/"
    )
    params = {
        "restart_command": str(proposed.get("restart_command") or target.restart_command) if restart else "",
        "restart_cwd": base_dir,
        "restart_timeout_s": target.restart_timeout_s,
        "health_url": target.url.rstrip("/") + "/" + path.lstrip("/") if target.url else "",
        "health_strict": bool(target.health_path),
        "health_headers": {name: absolute_reference(value, Path(base_dir)) for name, value in target.headers.items()},
        "ca_file": target.ca_file,
    }
    return params | {key: proposed[key] for key in ("reload_command", "reload_signal", "pid_file", "pid") if proposed.get(key)}


def activate(change_id: str, params: dict[str, Any], context: ChangeContext) -> None:
    """Makes a changed file count: restart, reload by command, reload by signal, or nothing where the service reads it by itself; healthy at the end."""
    if params["restart_command"]:
        restart(change_id, params, context)
    elif params.get("reload_command"):
        _run(change_id, params, params["reload_command"], "reload")
        _await_health(params, context, "its reload")
    elif params.get("reload_signal"):
        _signal(params)
        _await_health(params, context, f"signal {params['reload_signal']}")


def by_hand(params: dict[str, Any]) -> tuple[str, ...]:
    """The commands of a person for :func:`activate`."""
    command = params["restart_command"] or params.get("reload_command", "")
    if command:
        return (f"cd {shlex.quote(params['restart_cwd'])} && {command}",)
    if params.get("reload_signal"):
        pid = str(params["pid"]) if params.get("pid") else f"$(cat {shlex.quote(params['pid_file'])})"
        return (f"kill -{params['reload_signal']} {pid}",)
    return ()


def pid_of(params: Mapping[str, Any]) -> int:
    """The process that takes signals, from ``pid`` or ``pid_file``; ``CannotMeasure`` where there is none."""
    try:
        pid = int(params.get("pid") or Path(str(params["pid_file"])).read_text().strip())
    except (KeyError, ValueError, OSError) as error:
        raise CannotMeasure("the process to signal is not known", why=str(error), fix="name its pid_file") from None
    if start_time_s(pid) is None:
        raise CannotMeasure(f"the process to signal, {pid}, does not run", fix="start the service")
    return pid


def _signal(params: dict[str, Any]) -> None:
    number = getattr(signal, f"SIG{params['reload_signal']}", None)
    if number not in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        raise CannotMeasure(f"signal {params['reload_signal']} is not one that services reload by", fix="name HUP, USR1 or USR2")
    try:
        os.kill(pid_of(params), number)
    except OSError as error:
        raise CannotMeasure("the service could not be signalled", why=str(error), fix="run perfloop as the service's user") from None


def _run(change_id: str, params: dict[str, Any], command: str, what: str) -> None:
    completed = run_command(command, cwd=params["restart_cwd"], timeout_s=params["restart_timeout_s"], env={**os.environ, MARK: change_id})
    if not completed.ok:
        how = f"it took longer than {params['restart_timeout_s']:g} s" if completed.timed_out else f"it ended with status {completed.returncode}"
        raise CannotMeasure(
            f"the {what} command failed: {command}",
            why=f"{how}: {(completed.stderr or completed.stdout).strip()[-500:]}",
            fix="run it by hand and correct it",
        )


def _await_health(params: dict[str, Any], context: ChangeContext, after: str) -> None:
    deadline = time.monotonic() + params["restart_timeout_s"]
    while reason := unhealthy(params, context):
        if time.monotonic() > deadline:
            raise CannotMeasure(f"the service is not healthy {params['restart_timeout_s']:g} s after {after}", why=reason, fix="look at its log")
        time.sleep(0.1)


def restart(change_id: str, params: dict[str, Any], context: ChangeContext) -> None:
    """Runs the restart command and waits until the service answers from a new process; ``CannotMeasure`` with the command's last words where it does not."""
    before = _listeners(params)
    _run(change_id, params, params["restart_command"], "restart")
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


def end_running(change_id: str, params: dict[str, Any]) -> None:
    """Waits for a restart or reload command that a killed process of ours left running, so that two never run at once; ended by force after its time."""
    argv = shlex.split(params["restart_command"] or params.get("reload_command", ""))
    if not argv:
        return
    deadline = time.monotonic() + params["restart_timeout_s"]
    while running := _running(change_id, argv):
        if time.monotonic() >= deadline:
            for process in running:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)  # its own session and group: the pid is the group's id
        time.sleep(0.05)
        if time.monotonic() >= deadline + 10:
            raise CannotMeasure(
                f"an earlier command still runs: {shlex.join(argv)}",
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
