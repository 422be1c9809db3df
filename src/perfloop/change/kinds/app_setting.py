"""``app-setting``: a setting that the configuration names (a key of a file of the service, with its bounds), and the restart that makes it count.

Everything but the plan is that of every changed key: ``change/keyed.py``.
"""

from __future__ import annotations

import json
import math

from perfloop.change import keyed, service, settings
from perfloop.change.base import ChangeContext, hash_of, new_id
from perfloop.errors import ChangeRefused
from perfloop.model.change import Change, Safety
from perfloop.model.config import SettingConfig
from perfloop.model.finding import Proposal
from perfloop.model.target import Environment

ID = "app-setting"
OPERATION = "setting_change"


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``setting`` (its id in the configuration), and ``value`` or ``factor`` (times the live value, rounded up, at most ``max``)."""
    setting = _setting(proposal, context)
    path = (context.base_dir / setting.file).absolute()
    old = keyed.value(path, setting.key)
    new = _new_value(proposal, setting, old)
    if new == old:
        raise ChangeRefused(f"{setting.key} is already {old!r}", why="there is nothing to change", fix="raise its max in the configuration, or leave it")
    if setting.restart and not context.config.target.restart_command:
        raise ChangeRefused(
            f"{setting.key} takes effect at a restart, and none is configured",
            why="target.restart_command is empty",
            fix="set target.restart_command, or restart = false for a setting that is read again",
        )
    params = {
        "setting": setting.id,
        "file": str(path),
        "key": setting.key,
        "old": old,
        "new": new,
        **service.params_of(context.config, str(context.base_dir), setting.restart),
    }
    params["command"] = f"set {setting.key} = {json.dumps(new)} in {path}" + (f"; {params['restart_command']}" if setting.restart else "")
    params["rollback_command"] = f"set {setting.key} = {json.dumps(old)} in {path}" + (f"; {params['restart_command']}" if setting.restart else "")
    allowed = not setting.restart or context.environment == Environment.SANDBOX or context.config.changes.restart
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"{setting.key}: {old!r} → {new!r}",
        params=params,
        before={setting.key: old},
        after={setting.key: new},
        live_hash=hash_of([str(path), setting.key, old]),
        diff=keyed.difference(path, setting.key, new),
        risk="the service restarts: requests in flight may fail" if setting.restart else "the service reads the setting again while it runs",
        reach="the service, all its processes",
        safety=Safety.SAFE if allowed else Safety.ASK,
        undo_commands=keyed.by_hand(params, old),
        apply_commands=keyed.by_hand(params, new),
        resources=(f"file:{path}", f"setting:{setting.key}"),
        restarts=setting.restart,
    )


read, apply, cancel, verify, undo, verify_undone = keyed.read, keyed.apply, keyed.cancel, keyed.verify, keyed.undo, keyed.verify_undone


def _setting(proposal: Proposal, context: ChangeContext) -> SettingConfig:
    known = {setting.id: setting for setting in context.config.target.settings}
    name = str(proposal.params.get("setting", ""))
    if name not in known:
        raise ChangeRefused(
            f"there is no setting {name!r}", why=f"the configuration names {', '.join(sorted(known)) or 'none'}", fix="add it to [[target.settings]]"
        )
    return known[name]


def _new_value(proposal: Proposal, setting: SettingConfig, old: settings.Value) -> settings.Value:
    params = proposal.params
    if "value" in params:
        value = settings.like(old, params["value"], setting.key)
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and not (setting.min is None or value >= setting.min) & (setting.max is None or value <= setting.max)
        ):
            raise ChangeRefused(
                f"{setting.key} = {value} is outside its bounds", why=f"min {setting.min}, max {setting.max}", fix="choose a value between them"
            )
        return value
    if isinstance(old, bool) or not isinstance(old, int | float):
        raise ChangeRefused(f"{setting.key} is {old!r}, which cannot be multiplied", fix="propose a value")
    wanted = float(old) * float(params.get("factor", 2))
    for bound in (setting.max, params.get("max")):
        wanted = min(wanted, float(bound)) if bound is not None else wanted
    wanted = max(wanted, setting.min) if setting.min is not None else wanted
    if wanted < old < wanted * 1e9 and float(params.get("factor", 2)) > 1:
        return old  # a bound below the live value is no reason to lower it
    return math.floor(wanted) if isinstance(old, int) else wanted
