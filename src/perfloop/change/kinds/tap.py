"""``tap``: a proxy of ours between the service and one of its dependencies, by the address in the service's configuration and a restart.

The proxy is a process of its own (``wire/tap.py``) that outlives a crash of perfloop; the undo puts the old address back, restarts the service and ends it.
Of the configured value only the address is ever kept or shown, never its user and password.
"""

from __future__ import annotations

import shlex
from typing import Any

from perfloop.change import addresses, keyed, service, settings
from perfloop.change.base import ChangeContext, Note, hash_of, new_id
from perfloop.errors import CannotMeasure, ChangeRefused
from perfloop.host.worktree import free_port
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal
from perfloop.model.target import Environment
from perfloop.wire.client import Detached

ID = "tap"
OPERATION = "experiment_tap"
#: only an experiment needs it on, so that a rehearsal would only restart the service twice more
COSTLY = True


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``file`` (relative to the configuration), ``key`` whose value holds the address, ``peer`` (postgresql, mysql, redis, http, tcp)."""
    wanted = proposal.params
    path, key, peer = (context.base_dir / str(wanted.get("file", ""))).absolute(), str(wanted.get("key", "")), str(wanted.get("peer", "tcp"))
    value = keyed.value(path, key)
    address = addresses.find(value, peer, key)
    if not context.config.target.restart_command:
        raise ChangeRefused(f"a tap at {key} counts after a restart, and none is configured", fix="set target.restart_command")
    port = free_port()
    old, new = address.text, f"127.0.0.1:{port}"
    params: dict[str, Any] = {
        "file": str(path),
        "key": key,
        "peer": peer,
        "to": [address.host, address.port],
        "port": port,
        "old": old,
        "new": new,
        **service.params_of(context.config, str(context.base_dir), restart=True),
    }
    by_hand = service.by_hand(params)
    command = f"python -m perfloop.wire.tap --listen {new} --to {old} --protocol {peer}"
    edit = "${{EDITOR:-vi}} {file}   # the address in {key}: {address}"
    steps = [(edit.format(file=shlex.quote(str(path)), key=key, address=one), *by_hand) for one in (old, new)]
    params["command"] = f"{command}; address in {key} of {path}: {old} → {new}; {params['restart_command']}"
    params["rollback_command"] = f"address in {key} of {path}: {new} → {old}; {params['restart_command']}"
    allowed = context.environment == Environment.SANDBOX or context.config.changes.restart
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"a tap between the service and {peer} at {old}",
        params=params,
        before={key: old},
        after={key: new},
        live_hash=hash_of([str(path), key, old]),
        diff=f"--- {path}\n+++ {path}\n-{key}: … {old} …\n+{key}: … {new} …",
        risk="the service restarts twice: requests in flight may fail; while the tap is in, its connections end if the tap is killed",
        reach="the service, all its processes",
        safety=Safety.SAFE if allowed else Safety.ASK,
        undo_commands=steps[0],
        apply_commands=(f"{command} &", *steps[1]),
        resources=(f"file:{path}", f"setting:{key}", f"{peer}:{old}"),
        restarts=True,
    )


def tap_of(change: Change, context: ChangeContext) -> Detached:
    """The tap of a change, whoever started it."""
    if context.image_dir is None:
        raise ChangeRefused("a tap needs a journal", fix="go through the guard")
    return Detached(context.image_dir / f"{change.id}.tap")


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """The address in the file now."""
    return keyed.read(change, context, _form(change))


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Starts the tap, writes its address and restarts the service."""
    params, tap = change.params, tap_of(change, context)
    note({"type": "tap", "control": str(tap.control)})
    tap.end()
    try:
        tap.start(("127.0.0.1", int(params["port"])), (params["to"][0], int(params["to"][1])), params["peer"])
    except CannotMeasure as error:
        raise ChangeRefused(f"{change.title}: {error.what}", why=error.why, fix="try again: another process may have taken the port") from error
    keyed.apply(change, context, note, _form(change))


cancel = keyed.cancel


def verify(change: Change, context: ChangeContext) -> bool:
    """True where the file names the tap, the tap answers, and the service is healthy."""
    return keyed.verify(change, context, _form(change)) and tap_of(change, context).ok


def undo(change: Change, context: ChangeContext) -> None:
    """The old address, a restart where the service may have read ours, and the end of the tap."""
    keyed.undo(change, context, _form(change))
    tap_of(change, context).end()


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where the file names the old address, the service is healthy, and no tap answers."""
    return keyed.verify_undone(change, context, _form(change)) and not tap_of(change, context).control.exists()


def _form(change: Change) -> keyed.Format:
    """The address within the key's value, as if it were the value."""
    peer = change.params["peer"]

    def get(data: bytes, file: str, key: str) -> str:
        return addresses.find(settings.get(data, file, key), peer, key).text

    def replace(data: bytes, file: str, key: str, address: str) -> bytes:
        host, _, port = address.rpartition(":")
        return settings.replaced(data, file, key, addresses.replaced(settings.get(data, file, key), peer, key, host, int(port)))

    return keyed.Format(get, replace)
