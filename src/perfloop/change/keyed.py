"""One key of a file and what makes it count: the shared hands of ``app-setting``, ``config-file`` and ``nginx-setting``.

The undo is compare-and-swap: the whole file is put back, byte for byte, where it is still what we wrote; only the key where somebody edited
the rest meanwhile; and nothing where the key is neither ours nor the old value.
"""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfloop.change import cells, filestate, service, settings
from perfloop.change.base import ChangeContext, Note
from perfloop.errors import CannotMeasure, ChangeRefused, PerfloopError, UndoFailed
from perfloop.host.secrets import redact
from perfloop.model.change import Change


@dataclass(frozen=True)
class Format:
    """How a key is read and replaced in a file's bytes; None is an absent key."""

    get: Callable[[bytes, str, str], Any]
    replaced: Callable[[bytes, str, str, Any], bytes]


PLAIN = Format(settings.get, settings.replaced)


def value(path: Path, key: str, form: Format = PLAIN) -> Any:
    """The key's value in the file now; ``ChangeRefused`` where there is no such file or key."""
    data = filestate.content(path)
    if data is None:
        raise ChangeRefused(f"there is no file {path}", why="a key can be changed in a file that exists only", fix="correct the path")
    return form.get(data, path.name, key)


def read(change: Change, context: ChangeContext, form: Format = PLAIN) -> dict[str, Any]:
    """The key and its value in the file now."""
    return {change.params["key"]: value(Path(change.params["file"]), change.params["key"], form)}


def apply(change: Change, context: ChangeContext, note: Note, form: Format = PLAIN, check: Callable[[], None] = lambda: None) -> None:
    """Keeps the file aside, writes the key, asks ``check`` (``nginx -t``), and makes it count; ``ChangeRefused`` where the live value moved since the plan."""
    params = change.params
    live = read(change, context, form)
    if live != {params["key"]: params["old"]}:
        raise ChangeRefused(f"not applied: {change.title}", why="the live value moved since the plan was made", fix="make a new plan: perfloop plan")
    filestate.change_file(change, context, Path(params["file"]), _make(params, form), note)
    check()
    try:
        service.activate(change.id, params, context)
    except CannotMeasure as error:
        raise ChangeRefused(f"{change.title}: the service did not come back", why=f"{error.what}: {error.why}", fix=error.fix) from error


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Waits for a command that a killed perfloop left running."""
    if backend:
        service.end_running(change.id, change.params)


def verify(change: Change, context: ChangeContext, form: Format = PLAIN) -> bool:
    """True where the file says the new value and the service is healthy."""
    return read(change, context, form)[change.params["key"]] == change.params["new"] and not service.unhealthy(change.params, context)


def undo(change: Change, context: ChangeContext, form: Format = PLAIN, activate: Callable[[], None] | None = None) -> None:
    """Puts the old file or key back, then makes it count (by ``activate``, else as configured) where the service may have read ours."""
    params, path = change.params, Path(change.params["file"])

    def take_back(live: bytes) -> bytes:
        now = form.get(live, path.name, params["key"])
        if now == params["old"]:
            return live
        if now != params["new"]:
            raise cells.stuck(
                change,
                f"{params['key']} in {path} is {cells.shown(now)}: neither ours ({params['new']!r}) nor the old value ({params['old']!r}); somebody else changed it, and it was left alone",
            )
        return form.replaced(live, path.name, params["key"], params["old"])

    try:
        was_touched = filestate.touched(change, context)
        if was_touched:
            filestate.put_back(change, context, path, _make(params, form), take_back)
        else:
            data = filestate.content(path) or b""
            after = take_back(data)
            if after != data:  # kept long ago: its image is gone
                filestate.put_back_bytes(path, after)
                was_touched = True
        if was_touched:
            activate() if activate else service.activate(change.id, params, context)
        filestate.forget(change, context)
    except UndoFailed:
        raise
    except (PerfloopError, OSError) as error:
        raise cells.stuck(change, f"{getattr(error, 'what', error)}: {getattr(error, 'why', '')}") from error


def verify_undone(change: Change, context: ChangeContext, form: Format = PLAIN) -> bool:
    """True where the file says the old value and the service is healthy."""
    return read(change, context, form)[change.params["key"]] == change.params["old"] and not service.unhealthy(change.params, context)


def by_hand(params: dict[str, Any], value: Any) -> tuple[str, ...]:
    """What a person would type to set the key and make it count."""
    edit = f"${{EDITOR:-vi}} {shlex.quote(params['file'])}   # set {params['key']} to {json.dumps(value)}"
    if value is None:
        edit = f"${{EDITOR:-vi}} {shlex.quote(params['file'])}   # take {params['key']} out"
    return (edit, *service.by_hand(params))


def difference(path: Path, key: str, new: Any, form: Format = PLAIN) -> str:
    """A unified diff of setting the key, without lines around it: those may hold secrets."""
    before = filestate.content(path) or b""
    after = form.replaced(before, path.name, key, new)
    one, other = (data.decode(errors="replace").splitlines() for data in (before, after))
    return redact("\n".join(difflib.unified_diff(one, other, str(path), str(path), n=0, lineterm="")))


def _make(params: dict[str, Any], form: Format) -> filestate.Make:
    def make(before: bytes | None) -> bytes:
        return form.replaced(before or b"", Path(params["file"]).name, params["key"], params["new"])

    return make
