"""``redis-setting``: ``CONFIG SET`` on a running Redis, and, where asked, the same in its configuration file: two states, kept and put back apart.

``CONFIG SET`` is forgotten at the server's next start; ``CONFIG REWRITE`` would write all settings anew, so the file is edited by its one line instead.
Source: Redis manual, "CONFIG SET", "CONFIG REWRITE".
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perfloop.change import cells, filestate
from perfloop.change.base import ChangeContext, Note, absolute_reference, hash_of, new_id
from perfloop.errors import CannotMeasure, ChangeRefused, PerfloopError
from perfloop.host.secrets import redact
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal
from perfloop.sql.redis import connect_redis, redis_text

ID = "redis-setting"
OPERATION = "cache_tuning"
_SIZE = re.compile(r"^(\d+)(kb?|mb?|gb?)$", re.I)
_UNITS = {"k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2, "g": 1000**3, "gb": 1024**3}
#: settings that hold secrets, load code or move data: shown by nobody, changed by nobody
_NEVER = ("requirepass", "masterauth", "masteruser", "aclfile", "dir", "dbfilename", "loadmodule", "replicaof", "slaveof", "rename-command", "bind", "port")


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``name``, ``value``, ``dsn_ref`` (else ``target.redis_admin``), and ``persist`` to write the server's configuration file too."""
    wanted = proposal.params
    name, value = str(wanted.get("name", "")).lower(), str(wanted.get("value", ""))
    if name in _NEVER or not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise ChangeRefused(f"{name!r} is not changed by perfloop", why="it holds a secret, loads code or moves data", fix="change it by hand")
    reference = absolute_reference(str(wanted.get("dsn_ref") or context.config.target.redis_admin), context.base_dir)
    if not reference:
        raise ChangeRefused("no Redis is named", why="target.redis_admin is empty", fix='set target.redis_admin = "env:NAME" to its DSN')
    with _client(reference, context) as client:
        old = _get(client, name)
        file = str(client.info("server").get("config_file", "")) if wanted.get("persist") else ""
        address = f"{client.info('server').get('tcp_port', '')}"
    if old is None:
        raise ChangeRefused(f"Redis has no setting {name!r}", fix="check its name: redis-cli CONFIG GET '*'")
    new = _canonical(value, old)
    if new == old:
        raise ChangeRefused(f"{name} is already {old}", why="there is nothing to change", fix="choose another value")
    params: dict[str, Any] = {"dsn_ref": reference, "name": name, "file": file}
    if wanted.get("persist"):
        if not file or filestate.content(Path(file)) is None:
            raise ChangeRefused(
                f"{name} cannot be kept over a restart", why="this Redis has no configuration file that can be reached", fix="leave persist out"
            )
        params["file_old"], params["file_new"] = _line(filestate.content(Path(file)) or b"", name), new
    cli = f"redis-cli -u {_shell(reference)} CONFIG SET {name} "
    by_hand = [(cli + shlex.quote(text), *((f"${{EDITOR:-vi}} {shlex.quote(file)}   # {name} {text}",) if file else ())) for text in (old, new)]
    params["command"], params["rollback_command"] = (f"CONFIG SET {name} {shlex.quote(text)}" + (f"; and in {file}" if file else "") for text in (new, old))
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"Redis {name}: {old or repr(old)} → {new or repr(new)}",
        params=params,
        before={"running": old},
        after={"running": new},
        live_hash=hash_of([name, old]),
        diff=f"-{name} {old}\n+{name} {new}",
        risk="a lower maxmemory evicts keys, which no undo brings back" if name.startswith("maxmemory") else "takes effect at once",
        reach="this Redis, all its clients",
        safety=Safety.ASK if name.startswith("maxmemory") else Safety.SAFE,
        undo_commands=by_hand[0],
        apply_commands=by_hand[1],
        resources=(f"redis:{address}", f"setting:{name}"),
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """The running value."""
    return cells.read([_cell(change, context)])


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Sets it in the running server, then in the file."""
    cells.refuse_moved(change, [_cell(change, context)])
    if change.params["file"]:
        filestate.change_file(change, context, Path(change.params["file"]), _make(change), note)
    cells.apply(change, [_cell(change, context)], note)


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Nothing goes on running."""


def verify(change: Change, context: ChangeContext) -> bool:
    """True where the running server says the new value, and the file too where it was asked for."""
    return cells.holds([_cell(change, context)], change.after) and (not change.params["file"] or _file_line(change) == change.params["file_new"])


def undo(change: Change, context: ChangeContext) -> None:
    """The old running value, and the old file; each is left alone where somebody else has changed it meanwhile."""

    def take_back(live: bytes) -> bytes:
        now = _line(live, change.params["name"])
        if now not in (change.params["file_old"], change.params["file_new"]):
            raise cells.stuck(
                change, f"{change.params['name']} in {change.params['file']} is {cells.shown(now)}: somebody else changed it, and it was left alone"
            )
        return _with_line(live, change.params["name"], change.params["file_old"])

    if change.params["file"]:
        try:
            filestate.put_back(change, context, Path(change.params["file"]), _make(change), take_back)
        except (PerfloopError, OSError) as error:
            raise cells.stuck(change, getattr(error, "why", "") or str(error)) from error
    cells.undo(change, [_cell(change, context)])
    filestate.forget(change, context)


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where the running server, and the file, say the old value."""
    return cells.holds([_cell(change, context)], change.before) and (not change.params["file"] or _file_line(change) == change.params["file_old"])


def _cell(change: Change, context: ChangeContext) -> cells.Cell:
    """The running value, by a connection of its own each time: the server may have restarted meanwhile."""
    name = change.params["name"]

    def get() -> Any:
        with _client(change.params["dsn_ref"], context) as client:
            return _get(client, name)

    def put(value: Any) -> None:
        with _client(change.params["dsn_ref"], context) as client:
            client.config_set(name, value)

    return cells.Cell("running", get, put)


@contextmanager
def _client(reference: str, context: ChangeContext) -> Iterator[Any]:
    import redis

    client = connect_redis(context.resolve(reference))
    try:
        yield client
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise CannotMeasure("Redis did not answer", why=redis_text(error), fix="check that it runs") from None
    except redis.RedisError as error:
        raise ChangeRefused("Redis refuses that", why=redis_text(error), fix="correct the value, or the grants of that user") from None
    finally:
        client.close()


def _get(client: Any, name: str) -> str | None:
    value = client.config_get(name).get(name)
    return None if value is None else str(value)


def _canonical(value: str, old: str) -> str:
    """As CONFIG GET will tell it: sizes in bytes where a number stands, words in lower case."""
    size = _SIZE.match(value)
    if size and old.lstrip("-").isdigit():
        return str(int(size[1]) * _UNITS[size[2].lower()])
    return value.lower() if old.islower() and value.isalpha() else value


def _line(data: bytes, name: str) -> str | None:
    """The arguments of a setting's last line in a redis.conf, None where there is none."""
    found = re.findall(_pattern(name), data)
    return found[-1][1].decode(errors="replace").strip().strip('"') if found else None


def _with_line(data: bytes, name: str, value: str | None) -> bytes:
    """The file with that line set, added at its end, or (None) taken out."""
    matches = list(re.finditer(_pattern(name), data))
    if not matches:
        return data if value is None else data + (b"" if data.endswith(b"\n") or not data else b"\n") + f"{name} {_quoted(value)}\n".encode()
    last = matches[-1]
    if value is None:
        return data[: last.start()] + data[last.end() + 1 :]
    return data[: last.start(2)] + _quoted(value).encode() + data[last.end(2) :]


def _pattern(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?mi)^([ \t]*" + re.escape(name.encode()) + rb"[ \t]+)([^\r\n]*?)[ \t]*\r?$")


def _quoted(value: str) -> str:
    return value or '""'


def _file_line(change: Change) -> str | None:
    return _line(filestate.content(Path(change.params["file"])) or b"", change.params["name"])


def _make(change: Change) -> filestate.Make:
    return lambda before: _with_line(before or b"", change.params["name"], change.params["file_new"])


def _shell(reference: str) -> str:
    kind, _, name = reference.partition(":")
    return redact(f'"${name}"' if kind == "env" else f'"$(cat {shlex.quote(name)})"')
