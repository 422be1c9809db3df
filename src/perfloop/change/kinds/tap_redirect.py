"""``tap-redirect``: a proxy of ours before a dependency, by an nft rule that redirects new connections of this machine (IPv4, root); no restart, no file.

Connections that are open stay as they are: the rule is about the first packet only, because the kernel may first learn of a connection in its midst. The undo takes the rule
away and leaves one that matches nothing (with the last rule the kernel would forget the connections, and cut them off); the proxy then holds nothing back, and
ends when its last connection has, and with it the table.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
from typing import Any

from perfloop.change.base import ChangeContext, Note, new_id
from perfloop.change.kinds.tap import tap_of
from perfloop.errors import CannotMeasure, ChangeRefused, UndoFailed
from perfloop.host.command import run_command
from perfloop.host.worktree import free_port
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal

ID = "tap-redirect"
OPERATION = "experiment_tap"
COSTLY = True
NFT_S = 10.0
#: on the tap's own connections, which the rule spares
MARK = 0x7066


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``address`` (IPv4:port of the dependency), ``peer`` (postgresql, mysql, redis, http)."""
    host, _, port = str(proposal.params.get("address", "")).rpartition(":")
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        raise ChangeRefused(f"{host!r} is no IPv4 address", fix="name the dependency as 127.0.0.1:5432") from None
    if not port.isdigit() or not 0 < int(port) < 65_536:
        raise ChangeRefused(f"{port!r} is no port", fix="name the dependency as 127.0.0.1:5432")
    if shutil.which("nft") is None or os.geteuid() != 0:
        raise ChangeRefused(
            "connections cannot be redirected here",
            why="that needs root and the nft command",
            fix="name the file and key of the address instead: [[target.taps]]",
        )
    change_id, peer, ours = new_id(), str(proposal.params.get("peer", "tcp")), free_port()
    table = f"perfloop_{change_id.replace('-', '_')}"
    tap = f"python -m perfloop.wire.tap --listen 127.0.0.1:{ours} --to {address}:{port} --protocol {peer} --mark {MARK}"
    rule = f"meta mark != {MARK} ip daddr {address} tcp dport {int(port)} tcp flags & (fin|syn|rst|ack) == syn counter redirect to :{ours}"
    script = f"table ip {table} {{ chain out {{ type nat hook output priority -100; policy accept; {rule}; }}; }}"
    release = f"flush chain ip {table} out; add rule ip {table} out tcp dport 0 redirect to :1"
    remove = f"nft '{release}'"
    return Change(
        id=change_id,
        kind=ID,
        title=proposal.title or f"new connections to {peer} at {address}:{port} go through a tap",
        params={
            "table": table,
            "script": script,
            "release": release,
            "to": [str(address), int(port)],
            "port": ours,
            "peer": peer,
            "old": f"{address}:{port}",
            "command": f"{tap}; nft '{script}'",
            "rollback_command": remove,
        },
        before={"table": False},
        after={"table": True},
        risk="new connections of every process of this machine to that address go through the tap",
        reach="host",
        safety=Safety.ASK,
        undo_commands=(remove, f"nft delete table ip {table}   # once its last connection has ended"),
        apply_commands=(f"{tap} &", f"nft '{script}'"),
        resources=(f"nft:{table}", f"{peer}:{address}:{port}"),
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """Whether the rule is in."""
    return {"table": "ip daddr" in _listed(change)}


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Starts the tap, then the redirect."""
    params, tap = change.params, tap_of(change, context)
    note({"type": "tap", "control": str(tap.control)})
    tap.end()
    try:
        tap.start(("127.0.0.1", int(params["port"])), (params["to"][0], int(params["to"][1])), params["peer"], MARK, params["table"])
    except CannotMeasure as error:
        raise ChangeRefused(f"{change.title}: {error.what}", why=error.why, fix="try again") from error
    if not _nft(params["script"]):
        raise ChangeRefused(f"not applied: {change.title}", why="nft refused the rule", fix="name the file and key of the address instead: [[target.taps]]")


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Nothing goes on running."""


def verify(change: Change, context: ChangeContext) -> bool:
    """True where the rule is in and the tap answers."""
    return read(change, context) == change.after and tap_of(change, context).ok


def undo(change: Change, context: ChangeContext) -> None:
    """The rule away, then the tap ends with its last connection, and the table with the tap."""
    table, tap = change.params["table"], tap_of(change, context)
    if read(change, context)["table"] and not _nft(change.params["release"]):
        raise UndoFailed(f"could not undo: {change.title}", why="nft did not take the rule away", commands=change.undo_commands)
    tap.end(drain=True)
    if _listed(change) and not tap.ok:
        _nft("delete", "table", "ip", table)


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where the rule is gone, and the tap is gone or holds nothing back."""
    tap = tap_of(change, context)
    if read(change, context)["table"]:
        return False
    try:
        return not tap.control.exists() or tap.counters().delay_ms == 0
    except CannotMeasure:
        return True  # it has just ended


def _listed(change: Change) -> str:
    """The table as nft tells it; empty where there is none."""
    nft = shutil.which("nft")
    done = run_command([nft, "list", "table", "ip", change.params["table"]], timeout_s=NFT_S) if nft else None
    return done.stdout if done and done.ok else ""


def _nft(*words: str) -> bool:
    nft = shutil.which("nft")
    return nft is not None and run_command([nft, *words], timeout_s=NFT_S).ok
