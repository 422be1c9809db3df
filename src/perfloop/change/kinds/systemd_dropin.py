"""``systemd-dropin``: one setting of a unit in a drop-in of its own, then ``daemon-reload`` and the unit's restart.

Verified against a systemctl that plays replies written from its documentation, not against a running systemd. Sources: systemd.unit(5) (drop-ins), systemctl(1) (show, daemon-reload, restart).
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from perfloop.change import cells, filestate, programs, service
from perfloop.change.base import ChangeContext, Note, hash_of, new_id
from perfloop.errors import CannotMeasure, ChangeRefused, PerfloopError, UndoFailed
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal
from perfloop.model.target import Environment

ID = "systemd-dropin"
OPERATION = "setting_change"
ROOT = "/etc/systemd/system"
RESTART_MAX_S = 120.0
_UNIT = re.compile(r"^[A-Za-z0-9:_.@-]+\.(service|slice|scope|socket)$")
#: limits and scheduling only: nothing that says what runs, as whom, or with which rights
_SETTINGS = re.compile(
    r"^(CPU(Quota|Weight|SchedulingPolicy|Affinity)|Memory(Max|High|Low|Min|SwapMax)|IO(Weight|ReadBandwidthMax|WriteBandwidthMax)|TasksMax|Nice|Limit(NOFILE|NPROC|MEMLOCK|CORE)|OOMScoreAdjust)$"
)


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``unit`` (``shop.service``), ``setting`` (``LimitNOFILE``), ``value``; ``section`` (Service) and ``root`` where they are others."""
    wanted = proposal.params
    unit, setting, value = str(wanted.get("unit", "")), str(wanted.get("setting", "")), str(wanted.get("value", "")).strip()
    if not _UNIT.match(unit) or not _SETTINGS.match(setting) or not value or "\n" in value:
        raise ChangeRefused(f"{setting!r} of {unit!r} is not changed by perfloop", why="only limits and scheduling of a unit are", fix="change it by hand")
    old = _show(unit, setting)
    if old == value:
        raise ChangeRefused(f"{setting} is already {value}", why="there is nothing to change", fix="choose another value")
    folder = Path(str(wanted.get("root") or ROOT)) / f"{unit}.d"
    path = folder / f"90-perfloop-{setting.lower()}.conf"
    if path.exists():
        raise ChangeRefused(f"{path} is there already", why="another change of perfloop made it, or somebody else", fix="look at it, and take it away")
    section = str(wanted.get("section") or unit.rsplit(".", 1)[1].capitalize())
    text = f"# made by perfloop\n[{section}]\n{setting}={value}\n"
    makes_count = ("systemctl daemon-reload", f"systemctl restart {shlex.quote(unit)}")
    params = service.params_of(context.config, str(context.base_dir), restart=False)
    params |= {"unit": unit, "setting": setting, "old": old, "new": value, "file": str(path), "text": text}
    params["command"] = f"{setting}={value} in {path}; {'; '.join(makes_count)}"
    params["rollback_command"] = f"rm {shlex.quote(str(path))}; {'; '.join(makes_count)}"
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"{unit}: {setting} {old or 'unset'} → {value}",
        params=params,
        before={setting: old},
        after={setting: value},
        live_hash=hash_of([unit, setting, old]),
        diff=f"+{path}\n" + "".join(f"+{line}\n" for line in text.splitlines()),
        risk="the unit restarts: requests in flight may fail",
        reach=f"all processes of {unit}",
        safety=Safety.SAFE if context.environment == Environment.SANDBOX or context.config.changes.restart else Safety.ASK,
        undo_commands=(f"rm {shlex.quote(str(path))}", *makes_count),
        apply_commands=(f"printf %s {shlex.quote(text)} > {shlex.quote(str(path))}", *makes_count),
        resources=(f"unit:{unit}", f"file:{path}"),
        restarts=True,
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """What systemd says of the setting now."""
    return {change.params["setting"]: _show(change.params["unit"], change.params["setting"])}


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Writes the drop-in, reloads systemd and restarts the unit."""
    params = change.params
    if read(change, context) != change.before:
        raise ChangeRefused(f"not applied: {change.title}", why="the live value moved since the plan was made", fix="make a new plan: perfloop plan")
    Path(params["file"]).parent.mkdir(mode=0o755, exist_ok=True)
    filestate.change_file(change, context, Path(params["file"]), _make(change), note)
    try:
        _make_count(params, context)
    except CannotMeasure as error:
        raise ChangeRefused(f"{change.title}: the unit did not come back", why=f"{error.what}: {error.why}", fix=error.fix) from error


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """systemd queues jobs of a unit one after another: nothing of ours is to be stopped."""


def verify(change: Change, context: ChangeContext) -> bool:
    """True where systemd says the new value, and the unit is active."""
    return _same(read(change, context)[change.params["setting"]], change.params["new"]) and _active(change.params["unit"])


def undo(change: Change, context: ChangeContext) -> None:
    """Takes the drop-in away where it is still ours, reloads and restarts."""
    path = Path(change.params["file"])

    def take_back(live: bytes) -> bytes:
        if not live:
            return live
        raise cells.stuck(change, f"{path} is not the one that was made: somebody else changed it, and it was left alone")

    try:
        if filestate.touched(change, context):
            filestate.put_back(change, context, path, _make(change), take_back)
            if path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()
            _make_count(change.params, context)
        filestate.forget(change, context)
    except UndoFailed:
        raise
    except (PerfloopError, OSError) as error:
        raise cells.stuck(change, f"{getattr(error, 'what', error)}: {getattr(error, 'why', '')}") from error


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where the drop-in is gone, systemd says the old value and the unit is active."""
    params = change.params
    return not Path(params["file"]).exists() and read(change, context)[params["setting"]] == params["old"] and _active(params["unit"])


def _make(change: Change) -> filestate.Make:
    return lambda before: str(change.params["text"]).encode()


def _make_count(params: dict[str, Any], context: ChangeContext) -> None:
    programs.run(["systemctl", "daemon-reload"])
    programs.run(["systemctl", "restart", params["unit"]], timeout_s=RESTART_MAX_S)
    if reason := service.unhealthy(params, context):
        raise CannotMeasure("the service is not healthy after its restart", why=reason, fix=f"journalctl -u {params['unit']}")


def _show(unit: str, setting: str) -> str:
    return programs.run(["systemctl", "show", unit, "--property", setting, "--value"]).strip()


def _same(shown: str, wanted: str) -> bool:
    """As systemd tells sizes: 512M is 536870912."""
    match = re.fullmatch(r"(\d+)([KMGT])", wanted)
    return shown == wanted or (match is not None and shown == str(int(match[1]) * 1024 ** ("KMGT".index(match[2]) + 1)))


def _active(unit: str) -> bool:
    return programs.run(["systemctl", "show", unit, "--property", "ActiveState", "--value"]).strip() == "active"
