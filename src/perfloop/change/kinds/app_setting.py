"""``app-setting``: one key of the service's configuration file, and the restart that makes it count.

The undo is compare-and-swap: the whole file is put back, byte for byte, where it is still what we wrote; only the key where somebody edited
the rest meanwhile; and nothing where the key is neither ours nor the old value.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import shlex
from pathlib import Path
from typing import Any

from perfloop.change import service, settings
from perfloop.change.base import ChangeContext, Note, absolute_reference, hash_of, new_id, refuse_stale
from perfloop.errors import CannotMeasure, ChangeRefused, PerfloopError, StorageError, UndoFailed
from perfloop.host.files import read_limited, write_atomic
from perfloop.host.secrets import redact
from perfloop.model.change import Change, Safety
from perfloop.model.config import SettingConfig
from perfloop.model.finding import Proposal
from perfloop.model.target import Environment

ID = "app-setting"
OPERATION = "setting_change"
FILE_MAX_BYTES = 2**20


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``setting`` (its id in the configuration), and ``value`` or ``factor`` (times the live value, rounded up, at most ``max``)."""
    setting = _setting(proposal, context)
    path = (context.base_dir / setting.file).absolute()
    data = _read(path)
    old = settings.get(data, path.name, setting.key)
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
    params["health_headers"] = {name: absolute_reference(value, context.base_dir) for name, value in params["health_headers"].items()}
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
        diff=_diff(path, data, settings.replaced(data, path.name, setting.key, new)),
        risk="the service restarts: requests in flight may fail" if setting.restart else "the service reads the setting again while it runs",
        reach="the service, all its processes",
        safety=Safety.SAFE if allowed else Safety.ASK,
        undo_commands=_by_hand(params, old),
        apply_commands=_by_hand(params, new),
        resources=(f"file:{path}", f"setting:{setting.key}"),
        restarts=setting.restart,
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """The key and its value in the file now."""
    path = Path(change.params["file"])
    return {change.params["key"]: settings.get(_read(path), path.name, change.params["key"])}


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Keeps the whole file aside, writes the key, restarts where needed and waits for health."""
    params, path = change.params, Path(change.params["file"])
    data = _read(path)
    refuse_stale(change, hash_of([str(path), params["key"], settings.get(data, path.name, params["key"])]))
    written = settings.replaced(data, path.name, params["key"], params["new"])
    image = _image(change, context)
    if image is None:
        raise ChangeRefused(f"not applied: {change.title}", why="there is no place for the file's old content", fix="apply it through the guard")
    write_atomic(image, data, mode=0o600)
    note(
        {
            "type": "file",
            "path": str(path),
            "before_image": str(image),
            "written_sha256": hashlib.sha256(written).hexdigest(),
            "mode": path.stat().st_mode & 0o7777,
        }
    )
    write_atomic(path, written)
    try:
        if params["restart_command"]:
            service.restart(change.id, params, context)
    except CannotMeasure as error:
        raise ChangeRefused(f"{change.title}: the service did not come back", why=f"{error.what}: {error.why}", fix=error.fix) from error


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Waits for a restart command that a killed perfloop left running."""
    if backend and change.params["restart_command"]:
        service.end_running_restart(change.id, change.params)


def verify(change: Change, context: ChangeContext) -> bool:
    """True where the file says the new value and the service is healthy."""
    return read(change, context)[change.params["key"]] == change.params["new"] and not service.unhealthy(change.params, context)


def undo(change: Change, context: ChangeContext) -> None:
    """Puts the old value back, then restarts the service where it may have read ours."""
    params, path, image = change.params, Path(change.params["file"]), _image(change, context)
    try:
        data = _read(path)
        live = settings.get(data, path.name, params["key"])
        touched = image is not None and image.exists()
        if live == params["new"] and touched and image is not None:
            _restore(path, data, read_limited(image, FILE_MAX_BYTES), params)
        elif live == params["new"]:
            _put_back(path, settings.replaced(data, path.name, params["key"], params["old"]))
            touched = True
        elif live != params["old"]:
            raise _stuck(
                change,
                f"{params['key']} in {path} is {live!r}: neither ours ({params['new']!r}) nor the old value ({params['old']!r}); somebody else changed it, and it was left alone",
            )
        _sweep(path)
        if touched and params["restart_command"]:
            service.restart(change.id, params, context)
        if image is not None:
            image.unlink(missing_ok=True)  # nothing of ours is left, so doing this again must not restart the service again
    except UndoFailed:
        raise
    except (PerfloopError, OSError) as error:
        raise _stuck(change, f"{getattr(error, 'what', error)}: {getattr(error, 'why', '')}") from error


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where the file says the old value and the service is healthy."""
    return read(change, context)[change.params["key"]] == change.params["old"] and not service.unhealthy(change.params, context)


def _restore(path: Path, data: bytes, before: bytes, params: dict[str, Any]) -> None:
    """The old bytes where the file is still exactly what we wrote, else the old value in what somebody else made of the rest."""
    ours = settings.replaced(before, path.name, params["key"], params["new"])
    _put_back(path, before if data == ours else settings.replaced(data, path.name, params["key"], params["old"]))


def _put_back(path: Path, data: bytes) -> None:
    """Replaces the file, or, where its disk has no room for a second copy, overwrites it in place: an undo must not need space."""
    try:
        write_atomic(path, data)
    except StorageError:
        with path.open("r+b", buffering=0) as file:
            file.write(data)
            file.truncate()
            os.fsync(file.fileno())


def _sweep(path: Path) -> None:
    """Removes what a kill in the middle of an atomic write leaves beside the file."""
    real = Path(os.path.realpath(path))
    for leftover in real.parent.glob(f".{real.name[:80]}.*.new"):
        if leftover.stat().st_uid == os.geteuid():
            leftover.unlink(missing_ok=True)


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


def _by_hand(params: dict[str, Any], value: settings.Value) -> tuple[str, ...]:
    edit = f"${{EDITOR:-vi}} {shlex.quote(params['file'])}   # set {params['key']} to {json.dumps(value)}"
    return (edit, f"cd {shlex.quote(params['restart_cwd'])} && {params['restart_command']}") if params["restart_command"] else (edit,)


def _image(change: Change, context: ChangeContext) -> Path | None:
    return context.image_dir / f"{change.id}.before" if context.image_dir else None


def _diff(path: Path, before: bytes, after: bytes) -> str:
    """Without lines around the change: those may hold secrets."""
    lines = difflib.unified_diff(before.decode().splitlines(), after.decode().splitlines(), str(path), str(path), n=0, lineterm="")
    return redact("\n".join(lines))


def _read(path: Path) -> bytes:
    try:
        return read_limited(path, FILE_MAX_BYTES)
    except StorageError as error:
        raise ChangeRefused(error.what, why=error.why, fix="correct target.settings.file") from error


def _stuck(change: Change, why: str) -> UndoFailed:
    return UndoFailed(f"could not undo: {change.title}", why=why, commands=change.undo_commands)
