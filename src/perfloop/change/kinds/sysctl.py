"""``sysctl``: one kernel parameter, in the running kernel and, where asked, in a drop-in of ``/etc/sysctl.d``: two states, put back apart.

Some settings are twins: writing ``vm.dirty_bytes`` sets ``vm.dirty_ratio`` to 0 and the other way round, so both are kept, and the one that counted is
written back. Network parameters belong to the network namespace that perfloop runs in. Sources: kernel documentation, "admin-guide/sysctl/vm", sysctl.d(5).
"""

from __future__ import annotations

import errno
import re
import shlex
from pathlib import Path
from typing import Any

from perfloop.change import cells, filestate
from perfloop.change.base import ChangeContext, Note, hash_of, new_id
from perfloop.errors import ChangeRefused, PerfloopError
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal

ID = "sysctl"
OPERATION = "kernel_parameter_change"
ROOT = Path("/proc/sys")
DROP_IN = "/etc/sysctl.d/99-perfloop.conf"
#: writing one sets the other to 0
TWINS = {one: other for pair in (("vm.dirty_bytes", "vm.dirty_ratio"), ("vm.dirty_background_bytes", "vm.dirty_background_ratio"), ("vm.overcommit_kbytes", "vm.overcommit_ratio"))
         for one, other in (pair, pair[::-1])}  # fmt: skip
_NAME = re.compile(r"^[a-z0-9_]+(\.[A-Za-z0-9_-]+)+$")
#: performance only: never what protects, debugs, names or panics the machine
_ALLOWED = re.compile(
    r"^(vm\.(?!panic|drop_caches|compact_memory|mmap_min)|net\.(core|ipv4|ipv6|unix|netfilter)\.|fs\.(file-max|nr_open|aio-|inotify|epoll)|kernel\.(sched_|numa_|pid_max|threads-max|shm|sem|msg))"
)


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``name``, ``value``, and ``persist`` for a line in ``/etc/sysctl.d/99-perfloop.conf`` (or ``drop_in``), which counts at the next boot."""
    name, value = str(proposal.params.get("name", "")), _words(str(proposal.params.get("value", "")))
    if not _NAME.match(name) or not _ALLOWED.match(name) or ".." in name:
        raise ChangeRefused(
            f"{name!r} is not changed by perfloop", why="only parameters of performance are: vm, net, some of fs and kernel", fix="change it by hand"
        )
    names = [name, *([TWINS[name]] if name in TWINS else [])]
    before = {"running": {each: _get(each) for each in names}}
    after = {"running": {name: value, **({TWINS[name]: "0"} if name in TWINS else {})}}
    if before == after:
        raise ChangeRefused(f"{name} is already {value}", why="there is nothing to change", fix="choose another value")
    drop_in = str(proposal.params.get("drop_in") or DROP_IN) if proposal.params.get("persist") else ""
    old = before["running"]
    back = next(each for each in names if old[each] != "0" or each == names[-1]) if name in TWINS else name
    command, undo_ = (f"sysctl -w {each}={shlex.quote(text)}" for each, text in ((name, value), (back, old[back])))
    edit = (f"${{EDITOR:-vi}} {shlex.quote(drop_in)}   # the line of {name}",) if drop_in else ()
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"{name}: {old[name]} → {value}",
        params={"name": name, "value": value, "back": back, "drop_in": drop_in, "command": command, "rollback_command": undo_},
        before=before,
        after=after,
        live_hash=hash_of(before),
        diff=f"-{name} = {old[name]}\n+{name} = {value}",
        risk="takes effect at once, for everything on this machine" if not name.startswith("net.") else "takes effect at once, for this network namespace",
        reach="host" if not name.startswith("net.") else "network namespace",
        safety=Safety.ASK,
        undo_commands=(undo_, *edit),
        apply_commands=(command, *edit),
        resources=(f"sysctl:{name}", *((f"file:{drop_in}",) if drop_in else ())),
        lint=(f"{TWINS[name]} becomes 0: they are two forms of one setting",) if name in TWINS else (),
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """The running value, with its twin."""
    return cells.read([_cell(change)])


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Sets the running value, after the drop-in where it was asked for."""
    cells.refuse_moved(change, [_cell(change)])
    if change.params["drop_in"]:
        filestate.change_file(change, context, Path(change.params["drop_in"]), _make(change), note)
    cells.apply(change, [_cell(change)], note)


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Nothing goes on running."""


def verify(change: Change, context: ChangeContext) -> bool:
    """True where the kernel says the new value, and the drop-in too."""
    return cells.holds([_cell(change)], change.after) and (not change.params["drop_in"] or _line(change) == change.params["value"])


def undo(change: Change, context: ChangeContext) -> None:
    """The old running value, and the old drop-in (none where there was none); each is left alone where it is somebody else's now."""

    def take_back(live: bytes) -> bytes:
        now = _value_in(live, change.params["name"])
        image = filestate.image_path(change, context)
        before = filestate.load(image).data if image else None
        old = _value_in(before or b"", change.params["name"])
        if now not in (old, change.params["value"]):
            raise cells.stuck(
                change, f"{change.params['name']} in {change.params['drop_in']} is {cells.shown(now)}: somebody else changed it, and it was left alone"
            )
        return _with(live, change.params["name"], old)

    if change.params["drop_in"]:
        try:
            filestate.put_back(change, context, Path(change.params["drop_in"]), _make(change), take_back)
        except (PerfloopError, OSError) as error:
            raise cells.stuck(change, getattr(error, "why", "") or str(error)) from error
    cells.undo(change, [_cell(change)])
    filestate.forget(change, context)


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where the kernel says the old values."""
    return cells.holds([_cell(change)], change.before) and not filestate.touched(change, context)


def _cell(change: Change) -> cells.Cell:
    name, back = change.params["name"], change.params["back"]

    def put(values: dict[str, str]) -> None:
        each = name if values == change.after["running"] else back
        _set(each, values[each])

    return cells.Cell("running", lambda: {each: _get(each) for each in change.before["running"]}, put)


def _path(name: str) -> Path:
    return ROOT / name.replace(".", "/")


def _words(text: str) -> str:
    return " ".join(text.split())


def _get(name: str) -> str:
    try:
        return _words(_path(name).read_text())
    except OSError as error:
        raise ChangeRefused(f"there is no kernel parameter {name} here", why=error.strerror or str(error), fix="check its name: sysctl -a") from None


def _set(name: str, value: str) -> None:
    try:
        with _path(name).open("wb", buffering=0) as file:  # one write, or none
            file.write(value.encode())
    except OSError as error:
        why = "the kernel does not take that value" if error.errno in (errno.EINVAL, errno.ERANGE) else error.strerror or str(error)
        raise ChangeRefused(f"{name} could not be set to {value}", why=why, fix="choose another value, or run perfloop as root outside a container") from None


def _make(change: Change) -> filestate.Make:
    return lambda before: _with(before or b"# made by perfloop\n", change.params["name"], change.params["value"])


def _line(change: Change) -> str | None:
    return _value_in(filestate.content(Path(change.params["drop_in"])) or b"", change.params["name"])


def _pattern(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?m)^[ \t]*-?" + re.escape(name.encode()) + rb"[ \t]*=([^\n]*)$")


def _value_in(data: bytes, name: str) -> str | None:
    found = _pattern(name).findall(data)
    return _words(found[-1].decode(errors="replace")) if found else None


def _with(data: bytes, name: str, value: str | None) -> bytes:
    """The drop-in with the line set, added at its end, or (None) taken out."""
    matches = list(_pattern(name).finditer(data))
    if not matches:
        return data if value is None else data + (b"\n" if data and not data.endswith(b"\n") else b"") + f"{name} = {value}\n".encode()
    last = matches[-1]
    if value is None:
        return data[: last.start()] + data[last.end() + 1 :]
    return data[: last.start(1)] + f" {value}".encode() + data[last.end(1) :]
