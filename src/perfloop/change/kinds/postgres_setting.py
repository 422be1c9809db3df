"""``postgres-setting``: ``ALTER SYSTEM`` and what makes it count: a reload, or the configured restart of the server.

What stands in ``postgresql.auto.conf`` and what the server runs with are two states; *unset* is remembered as such. The server's own check
(``pg_file_settings.error``) is read before the reload. Source: PostgreSQL manual, "ALTER SYSTEM", "pg_settings", "pg_file_settings".
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from perfloop.change import cells, service
from perfloop.change.base import ChangeContext, Note, absolute_reference, hash_of, new_id
from perfloop.errors import CannotMeasure, ChangeRefused
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal
from perfloop.model.target import Environment
from perfloop.sql.connect import connect_admin

ID = "postgres-setting"
OPERATION = "setting_change"
RELOAD_MAX_S = 10.0
START_MAX_S = 60.0
_NAME = re.compile(r"^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$")
_AUTO = "%/postgresql.auto.conf"
#: settings that hold lists, files, keys, or who may connect
_NEVER = re.compile(r"^(.*_preload_libraries|search_path|temp_tablespaces|unix_socket.*|synchronous_standby_names|hba_file|ident_file|data_directory|config_file"
                    r"|ssl.*|password_encryption|archive_command|restore_command|.*_command|krb.*|fsync|full_page_writes|primary_conninfo|listen_addresses|port|wal_level)$")  # fmt: skip


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``name``, ``value`` (as one writes it: ``64MB``), ``dsn_ref`` (else ``target.postgres_admin``); ``restart_command`` of the *database*, for settings that it reads at its start."""
    wanted = proposal.params
    name, value = str(wanted.get("name", "")).lower(), str(wanted.get("value", "")).strip()
    if not _NAME.match(name) or _NEVER.match(name):
        raise ChangeRefused(f"{name!r} is not changed by perfloop", why="it concerns files, security, durability or replication", fix="change it by hand")
    reference = absolute_reference(str(wanted.get("dsn_ref") or context.config.target.postgres_admin), context.base_dir)
    if not reference:
        raise ChangeRefused(
            "no role may change settings", why="target.postgres_admin is empty", fix='set target.postgres_admin = "env:NAME" to a superuser\'s DSN'
        )
    with _connected(reference, context) as connection:
        row = connection.execute(
            "SELECT setting, unit, context, source, min_val, max_val, vartype FROM pg_catalog.pg_settings WHERE name = %s", (name,)
        ).fetchone()
        in_file = _in_file(connection, name)
    if row is None:
        raise ChangeRefused(f"PostgreSQL has no setting {name!r}", fix="check its name: SHOW ALL")
    running, unit, needs, source, low, high, kind = row
    if needs == "internal":
        raise ChangeRefused(f"{name} cannot be changed", why="it is fixed when PostgreSQL is built", fix="choose another setting")
    new = base_value(value, unit, kind)
    if kind in ("integer", "real") and low is not None and not float(low) <= float(new) <= float(high):
        raise ChangeRefused(f"{name} = {value} is outside its bounds", why=f"{low} to {high} {unit or ''}".strip(), fix="choose a value between them")
    if new == running:
        raise ChangeRefused(f"{name} is already {value}", why="there is nothing to change", fix="choose another value")
    restart = needs == "postmaster"
    params = service.params_of(context.config, str(context.base_dir), restart=False) | {"dsn_ref": reference, "name": name, "restarts": restart}
    params["restart_command"] = str(wanted.get("restart_command", "")) if restart else ""
    if restart and not params["restart_command"]:
        raise ChangeRefused(f"{name} takes effect when PostgreSQL starts", why="no command is known that restarts it", fix="name its restart_command")
    params["command"] = f"ALTER SYSTEM SET {name} = '{value}';"
    params["rollback_command"] = f"ALTER SYSTEM RESET {name};" if in_file is None else f"ALTER SYSTEM SET {name} = '{in_file}';"
    makes_count = params["restart_command"] if restart else _psql(reference, "SELECT pg_reload_conf();")
    overridden = source in ("database", "user", "database user", "session", "client", "command line")
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"PostgreSQL {name}: {running}{unit or ''} → {value}",
        params=params,
        before={"file": in_file, "running": running},
        after={"file": value, "running": new},
        live_hash=hash_of([name, in_file, running]),
        diff=f"-{name} = {in_file if in_file is not None else '(unset)'}\n+{name} = {value}",
        risk="the database restarts: all connections break" if restart else "new statements take it at once",
        reach="the whole database server",
        safety=Safety.ASK if restart and context.environment != Environment.SANDBOX else Safety.SAFE,
        undo_commands=(_psql(reference, params["rollback_command"]), makes_count),
        apply_commands=(_psql(reference, params["command"]), makes_count),
        resources=(f"setting:{name}",),
        restarts=restart,
        lint=(f"its value now comes from: {source}; there ALTER SYSTEM does not reach",) if overridden else (),
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """What postgresql.auto.conf says (None: unset), and what the server runs with."""
    return cells.read(_cells(change, context))


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Writes it by ALTER SYSTEM, asks the server whether it accepts the file, and makes it count."""
    cells.apply(change, _cells(change, context), note)


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Waits for a restart of the database that a killed perfloop left running."""
    if backend:
        service.end_running(change.id, change.params)


def verify(change: Change, context: ChangeContext) -> bool:
    """True where the file and the running server say the new value, no restart is pending and the service is healthy."""
    return cells.holds(_cells(change, context), change.after) and not _pending(change, context) and not service.unhealthy(change.params, context)


def undo(change: Change, context: ChangeContext) -> None:
    """The old line, or none where it was unset, and the old running value."""
    cells.undo(change, _cells(change, context))


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where both are as they were, no restart is pending and the service is healthy."""
    return cells.holds(_cells(change, context), change.before) and not _pending(change, context) and not service.unhealthy(change.params, context)


def base_value(text: str, unit: str | None, kind: str) -> str:
    """As ``pg_settings.setting`` tells a value: ``64MB`` in a setting of unit 8kB is ``8192``; booleans are on and off."""
    if kind == "bool":
        return "on" if text.lower() in ("on", "true", "yes", "1") else "off"
    match = re.fullmatch(r"([+-]?\d+(?:\.\d+)?)\s*([A-Za-z]*)", text)
    if kind not in ("integer", "real") or match is None:
        return text
    number, suffix = float(match[1]), match[2]
    if suffix:
        if unit is None or suffix not in _SCALE or _SCALE[suffix][0] != _unit(unit)[0]:
            raise ChangeRefused(
                f"{text} is no value of this setting", why=f"its unit is {unit or 'none'}", fix="write a number, or one with a unit of that kind"
            )
        number = number * _SCALE[suffix][1] / _unit(unit)[1]
    if kind == "integer":
        return str(round(number))
    return repr(int(number)) if number.is_integer() else repr(number)


_SCALE = {"B": ("size", 1), "kB": ("size", 1024), "MB": ("size", 1024**2), "GB": ("size", 1024**3), "TB": ("size", 1024**4),
          "us": ("time", 1), "ms": ("time", 1000), "s": ("time", 10**6), "min": ("time", 60 * 10**6), "h": ("time", 3600 * 10**6), "d": ("time", 86_400 * 10**6)}  # fmt: skip


def _unit(unit: str) -> tuple[str, float]:
    match = re.fullmatch(r"(\d*)([A-Za-z]+)", unit)
    assert match is not None
    kind, scale = _SCALE[match[2]]
    return kind, scale * int(match[1] or 1)


def _cells(change: Change, context: ChangeContext) -> list[cells.Cell]:
    params = change.params
    name, reference = params["name"], params["dsn_ref"]

    def in_file() -> Any:
        with _connected(reference, context, change.id) as connection:
            return _in_file(connection, name)

    def write_file(value: Any) -> None:
        with _connected(reference, context, change.id) as connection:
            target = sql.Identifier(*name.split("."))
            if value is None:
                connection.execute(sql.SQL("ALTER SYSTEM RESET {}").format(target))
            else:
                connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(target, sql.Literal(value)))
            found = connection.execute("SELECT error FROM pg_catalog.pg_file_settings WHERE name = %s AND error IS NOT NULL", (name,)).fetchone()
        if found and value is not None and not (params["restarts"] and "restart" in found[0]):
            raise ChangeRefused(f"PostgreSQL does not accept {name} = {value}", why=found[0], fix="choose another value")

    def running() -> Any:
        with _connected(reference, context, change.id) as connection:
            return _running(connection, name)

    def make_count(value: Any) -> None:
        if params["restart_command"]:
            service.restart(change.id, params, context)
        else:
            with _connected(reference, context, change.id) as connection:
                connection.execute("SELECT pg_catalog.pg_reload_conf()")
        deadline = time.monotonic() + (START_MAX_S if params["restart_command"] else RELOAD_MAX_S)
        while time.monotonic() < deadline:
            try:
                if running() == value:
                    return
            except CannotMeasure:  # it starts
                pass
            time.sleep(0.02)
        raise CannotMeasure(f"{name} did not become {value}", why="the server did not take it", fix="look into the server's log")

    return [cells.Cell("file", in_file, write_file), cells.Cell("running", running, make_count, derived=True)]


def _in_file(connection: psycopg.Connection[Any], name: str) -> str | None:
    row = connection.execute(
        "SELECT setting FROM pg_catalog.pg_file_settings WHERE name = %s AND sourcefile LIKE %s ORDER BY seqno DESC LIMIT 1", (name, _AUTO)
    ).fetchone()
    return str(row[0]) if row else None


def _running(connection: psycopg.Connection[Any], name: str) -> str | None:
    row = connection.execute("SELECT setting FROM pg_catalog.pg_settings WHERE name = %s", (name,)).fetchone()
    return str(row[0]) if row else None


def _pending(change: Change, context: ChangeContext) -> bool:
    with _connected(change.params["dsn_ref"], context) as connection:
        row = connection.execute("SELECT pending_restart FROM pg_catalog.pg_settings WHERE name = %s", (change.params["name"],)).fetchone()
        return bool(row and row[0])


@contextmanager
def _connected(reference: str, context: ChangeContext, lock: str = "") -> Iterator[psycopg.Connection[Any]]:
    """``lock`` (a change's id) is held by the session: what a killed client of ours still does in the server is waited for."""
    connection = connect_admin(context.resolve(reference))
    try:
        if lock:
            connection.execute("SELECT pg_catalog.pg_advisory_lock(pg_catalog.hashtextextended(%s, 0))", (lock,))
        yield connection
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise CannotMeasure("the database did not do as asked", why=_text(error), fix="check that it runs") from None
    except psycopg.Error as error:
        raise ChangeRefused(
            "the database refuses that", why=_text(error), fix="correct the value; ALTER SYSTEM needs a superuser in target.postgres_admin"
        ) from None
    finally:
        connection.close()


def _text(error: psycopg.Error) -> str:
    return " ".join(str(error.diag.message_primary or error).split())[:500]


def _psql(reference: str, statement: str) -> str:
    kind, _, name = reference.partition(":")
    dsn = f'"${name}"' if kind == "env" else f'"$(cat {shlex.quote(name)})"'
    return f"psql {dsn} -c {shlex.quote(statement)}"
