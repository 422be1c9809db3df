"""``nginx-setting``: one directive of an nginx configuration: written, tested by ``nginx -t``, reloaded, and new workers seen.

nginx goes on with its old workers when a reload fails, and says so in its log only; so a reload counts when workers that are younger than it serve and the
old ones are gone or are shutting down. Source: nginx manual, "Controlling nginx" (HUP).
"""

from __future__ import annotations

import os
import shlex
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from perfloop.change import keyed, nginx_text, service
from perfloop.change.base import ChangeContext, Note, hash_of, new_id
from perfloop.errors import CannotMeasure, ChangeRefused
from perfloop.host.processes import run_command, start_time_s
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal

ID = "nginx-setting"
OPERATION = "setting_change"
TEST_MAX_S = 20.0
RELOAD_MAX_S = 30.0
FORM = keyed.Format(nginx_text.get, nginx_text.replaced)


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``key`` (``http.gzip``), ``value`` (its arguments; None takes it out), ``pid_file``, and where they are not the usual ones ``conf`` (the main
    file), ``file`` (the file with the directive, if it is another) and ``nginx`` (the program)."""
    wanted = proposal.params
    conf = (context.base_dir / str(wanted.get("conf") or "/etc/nginx/nginx.conf")).absolute()
    path = (context.base_dir / str(wanted.get("file") or conf)).absolute()
    key, new = str(wanted.get("key", "")), wanted.get("value")
    new = None if new is None else str(new).strip()
    old = keyed.value(path, key, FORM)
    if new == old:
        raise ChangeRefused(f"{key} is already {old or 'unset'}", why="there is nothing to change", fix="choose another value")
    params = service.params_of(context.config, str(context.base_dir), restart=False)
    params |= {"file": str(path), "key": key, "old": old, "new": new, "conf": str(conf), "nginx": str(wanted.get("nginx") or _program())}
    params["pid_file"] = str((context.base_dir / str(wanted.get("pid_file") or _pid_file(conf))).absolute())
    reload = f"{_test_command(params)} && kill -HUP $(cat {shlex.quote(params['pid_file'])})"
    name = key.rsplit(".", 1)[-1]
    params["command"] = f"{key} {new or '(unset)'} in {path}; {reload}"
    params["rollback_command"] = f"{key} {old or '(unset)'} in {path}; {reload}"
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"nginx {name}: {old or 'unset'} → {new or 'unset'}",
        params=params,
        before={key: old},
        after={key: new},
        live_hash=hash_of([str(path), key, old]),
        diff=keyed.difference(path, key, new, FORM),
        risk="nginx reloads: requests in flight are finished by the old workers",
        reach="this nginx, all its servers",
        safety=Safety.SAFE,
        undo_commands=(*keyed.by_hand(params, old), reload),
        apply_commands=(*keyed.by_hand(params, new), reload),
        resources=(f"file:{path}", f"setting:{key}"),
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """The directive and its arguments in the file now; None where it is not set."""
    return keyed.read(change, context, FORM)


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Writes it, has nginx test the whole configuration, and only then reloads; ``ChangeRefused`` with nginx's own words."""
    keyed.apply(change, context, note, FORM, check=lambda: _test(change.params))
    try:
        _reload(change.params)
    except CannotMeasure as error:
        raise ChangeRefused(f"not in effect: {change.title}", why=f"{error.what}: {error.why}", fix=error.fix) from error


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Nothing of ours runs elsewhere: the test ends by itself and a signal is sent in one go."""


def verify(change: Change, context: ChangeContext) -> bool:
    """True where the file says so, nginx accepts it and serves."""
    return keyed.verify(change, context, FORM)


def undo(change: Change, context: ChangeContext) -> None:
    """Puts the file back and reloads, where nginx may have read ours; a stopped nginx needs no reload."""

    def reload() -> None:
        if _master(change.params) is not None:
            _test(change.params)
            _reload(change.params)

    keyed.undo(change, context, FORM, activate=reload)


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where the file is as it was and the service is healthy."""
    return keyed.verify_undone(change, context, FORM)


def workers(master: int) -> dict[int, float]:
    """Workers of a master that take new connections, by pid, with their start."""
    found = {}
    for child in _children(master):
        with suppress(psutil.Error):  # it ends just now
            title = " ".join(child.cmdline())
            if "worker process" in title and "shutting down" not in title:
                found[child.pid] = start_time_s(child.pid) or 0.0
    return found


def _reload(params: dict[str, Any]) -> None:
    master = _master(params)
    if master is None:
        raise CannotMeasure("nginx does not run", why=f"{params['pid_file']} names no living process", fix="start it")
    before = workers(master)
    try:
        os.kill(master, signal.SIGHUP)
    except OSError as error:
        raise CannotMeasure("nginx could not be told to reload", why=str(error), fix="run perfloop as the user that nginx's master runs as") from None
    deadline = time.monotonic() + RELOAD_MAX_S
    while time.monotonic() < deadline:
        now = workers(master)
        if now and not before.items() & now.items():
            return
        time.sleep(0.02)
    raise CannotMeasure("nginx did not take the new configuration", why=f"no new workers after {RELOAD_MAX_S:g} s", fix="look into its error log")


def _test(params: dict[str, Any]) -> None:
    done = run_command([params["nginx"], "-t", "-q", "-c", params["conf"]], timeout_s=TEST_MAX_S)
    if not done.ok:
        words = (done.stderr or done.stdout).strip()[-500:]
        raise ChangeRefused("nginx -t refuses the configuration", why=words or f"it ended with status {done.returncode}", fix=f"{_test_command(params)}")


def _test_command(params: dict[str, Any]) -> str:
    return shlex.join([params["nginx"], "-t", "-c", params["conf"]])


def _master(params: dict[str, Any]) -> int | None:
    try:
        return service.pid_of(params)
    except CannotMeasure:
        return None


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.Error:
        return []


def _program() -> str:
    return next((str(path) for path in map(Path, ("/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/local/nginx/sbin/nginx")) if path.exists()), "nginx")


def _pid_file(conf: Path) -> str:
    told = keyed.value(conf, "pid", FORM)
    return str(told or "/run/nginx.pid")
