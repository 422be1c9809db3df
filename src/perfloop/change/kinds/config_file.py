"""``config-file``: one key of any configuration file (TOML, YAML, JSON, INI, env, properties), and what makes it count.

Comments, order, mode and owner stay. The undo is compare-and-swap, key by key: ``change/keyed.py``.
"""

from __future__ import annotations

import json
from typing import Any

from perfloop.change import keyed, service, settings
from perfloop.change.base import ChangeContext, hash_of, new_id
from perfloop.errors import ChangeRefused
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal
from perfloop.model.target import Environment

ID = "config-file"
OPERATION = "setting_change"


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``file`` (relative to the configuration), ``key``, ``value``, and what makes it count: ``restart`` (default where a restart command is known),
    ``restart_command``, ``reload_command``, or ``reload_signal`` with ``pid_file``."""
    wanted = proposal.params
    path = (context.base_dir / str(wanted.get("file", ""))).absolute()
    key = str(wanted.get("key", ""))
    if "value" not in wanted or not key:
        raise ChangeRefused("the proposal names no key or no value", fix="file, key and value are needed: --set FILE:KEY=VALUE")
    old = keyed.value(path, key)
    new = fitting(old, wanted["value"], key)
    if new == old:
        raise ChangeRefused(f"{key} is already {old!r}", why="there is nothing to change", fix="choose another value")
    reloads = bool(wanted.get("reload_command") or wanted.get("reload_signal"))
    restart = bool(wanted.get("restart", not reloads and bool(wanted.get("restart_command") or context.config.target.restart_command)))
    params = {"file": str(path), "key": key, "old": old, "new": new, **service.params_of(context.config, str(context.base_dir), restart, wanted)}
    if restart and not params["restart_command"]:
        raise ChangeRefused(f"{key} takes effect at a restart, and none is configured", why="target.restart_command is empty", fix="set target.restart_command")
    by_hand = service.by_hand(params)
    params["command"] = "; ".join((f"set {key} = {json.dumps(new)} in {path}", *by_hand))
    params["rollback_command"] = "; ".join((f"set {key} = {json.dumps(old)} in {path}", *by_hand))
    allowed = not restart or context.environment == Environment.SANDBOX or context.config.changes.restart
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"{path.name}: {key} {old!r} → {new!r}",
        params=params,
        before={key: old},
        after={key: new},
        live_hash=hash_of([str(path), key, old]),
        diff=keyed.difference(path, key, new),
        risk="the service restarts: requests in flight may fail" if restart else "the service reads the file again while it runs",
        reach="the service, all its processes",
        safety=Safety.SAFE if allowed else Safety.ASK,
        undo_commands=keyed.by_hand(params, old),
        apply_commands=keyed.by_hand(params, new),
        resources=(f"file:{path}", f"setting:{key}"),
        restarts=restart,
        lint=() if by_hand else ("nothing makes the service read it again: it must watch the file itself",),
    )


def fitting(old: settings.Value, new: Any, key: str) -> settings.Value:
    """The value in the type of the old one; a text from a command line is read as that type too."""
    if isinstance(new, str) and not isinstance(old, str):
        try:
            new = json.loads(new.lower() if isinstance(old, bool) else new)
        except ValueError:
            pass
    return settings.like(old, new, key)


read, apply, cancel, verify, undo, verify_undone = keyed.read, keyed.apply, keyed.cancel, keyed.verify, keyed.undo, keyed.verify_undone
