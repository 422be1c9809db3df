"""``mysql-setting``: ``SET GLOBAL`` on a running MySQL or MariaDB, and on MySQL 8, where asked, ``PERSIST``: two states, put back apart.

The server rounds and clamps values without an error, so the value is rounded first, by the bounds that the server tells, and never applied where that is
not possible. Sources: MariaDB Knowledge Base, "SYSTEM_VARIABLES table"; MySQL manual, "SET syntax", "persisted_variables".
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from perfloop.change import cells
from perfloop.change.base import ChangeContext, Note, absolute_reference, hash_of, new_id
from perfloop.errors import CannotMeasure, ChangeRefused
from perfloop.host.secrets import redact
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal
from perfloop.sql.mysql import connect_mysql, mysql_text

ID = "mysql-setting"
OPERATION = "setting_change"
RESIZE_MAX_S = 60.0
_SIZE = re.compile(r"^(\d+)([KMGT])B?$", re.I)
_NAME = re.compile(r"^[a-z][a-z0-9_]*$")
#: settings that open the server, load code, or stop replication
_NEVER = re.compile(
    r"^(secure_|init_|plugin|general_log_file|slow_query_log_file|read_only|super_read_only|gtid|server_id|.*password|.*_key$|.*_cert$|ssl|tls|event_scheduler)"
)


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``name``, ``value``, ``dsn_ref`` (else ``target.mysql_admin``), and ``persist`` (MySQL 8: keep it over a restart)."""
    wanted = proposal.params
    name = str(wanted.get("name", "")).lower()
    if not _NAME.match(name) or _NEVER.match(name):
        raise ChangeRefused(f"{name!r} is not changed by perfloop", why="it concerns security, files or replication", fix="change it by hand")
    reference = absolute_reference(str(wanted.get("dsn_ref") or context.config.target.mysql_admin), context.base_dir)
    if not reference:
        raise ChangeRefused("no MySQL is named", why="target.mysql_admin is empty", fix='set target.mysql_admin = "env:NAME" to its DSN')
    with _connected(reference, context) as connection:
        maria = "mariadb" in str(_one(connection, "SELECT VERSION()")).lower()
        old = _get(connection, name)
        new = _rounded(connection, name, _typed(wanted.get("value"), old, name), maria)
        persisted = None if maria or not wanted.get("persist") else _persisted(connection, name)
    if wanted.get("persist") and maria:
        raise ChangeRefused(f"{name} cannot be kept over a restart by SET", why="MariaDB has no SET PERSIST", fix="change its my.cnf too: kind config-file")
    if new == old:
        raise ChangeRefused(
            f"{name} is already {old}", why="there is nothing to change, or the server's bounds allow no other value", fix="choose another value"
        )
    verb = "PERSIST" if wanted.get("persist") else "GLOBAL"
    statements = [f"SET {verb} {name} = {_literal(value)};" for value in (old, new)]
    if wanted.get("persist") and persisted is None:
        statements[0] = f"SET GLOBAL {name} = {_literal(old)}; RESET PERSIST {name};"
    before, after = {"running": old}, {"running": new}
    if wanted.get("persist"):
        before, after = {"running": old, "persisted": persisted}, {"running": new, "persisted": str(new)}
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"MySQL {name}: {old} → {new}",
        params={"dsn_ref": reference, "name": name, "command": statements[1], "rollback_command": statements[0]},
        before=before,
        after=after,
        live_hash=hash_of([name, before]),
        diff=f"-{name} = {old}\n+{name} = {new}",
        risk="new sessions take it; running ones keep what they have",
        reach="this server, all its databases",
        safety=Safety.SAFE,
        undo_commands=(_client_command(reference, statements[0]),),
        apply_commands=(_client_command(reference, statements[1]),),
        resources=(f"setting:{name}",),
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """The running value, and the persisted one where it is part of the change."""
    return cells.read(_cells(change, context))


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Sets it and reads it back."""
    cells.apply(change, _cells(change, context), note)


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Nothing goes on running: a killed client's SET has happened or has not."""


def verify(change: Change, context: ChangeContext) -> bool:
    """True where the server says the new values."""
    return cells.holds(_cells(change, context), change.after)


def undo(change: Change, context: ChangeContext) -> None:
    """The old values, each where the live one is ours."""
    cells.undo(change, _cells(change, context))


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where the server says the old values."""
    return cells.holds(_cells(change, context), change.before)


def _cells(change: Change, context: ChangeContext) -> list[cells.Cell]:
    """Each read and write by a connection of its own: the server may have restarted meanwhile."""
    name, reference = change.params["name"], change.params["dsn_ref"]

    def get() -> Any:
        with _connected(reference, context, change.id) as connection:
            return _get(connection, name)

    def put(value: Any) -> None:
        with _connected(reference, context, change.id) as connection:
            _execute(connection, f"SET GLOBAL {name} = %s", value)
            deadline = time.monotonic() + RESIZE_MAX_S  # a buffer pool is resized in the background
            while _get(connection, name) != value and time.monotonic() < deadline:
                time.sleep(0.05)

    def get_persisted() -> Any:
        with _connected(reference, context, change.id) as connection:
            return _persisted(connection, name)

    def put_persisted(value: Any) -> None:
        with _connected(reference, context, change.id) as connection:
            if value is None:
                _execute(connection, f"RESET PERSIST IF EXISTS {name}")
            else:
                _execute(connection, f"SET PERSIST_ONLY {name} = %s", _typed(value, change.before["running"], name))

    found = [cells.Cell("running", get, put)]
    return [*found, cells.Cell("persisted", get_persisted, put_persisted)] if "persisted" in change.before else found


@contextmanager
def _connected(reference: str, context: ChangeContext, lock: str = "") -> Iterator[Any]:
    """``lock`` (a change's id) is held by the session: what a killed client of ours still does in the server is waited for."""
    import pymysql

    connection = connect_mysql(context.resolve(reference))
    try:
        if lock and _one(connection, "SELECT GET_LOCK(%s, 20)", f"perfloop:{lock}") != 1:
            raise CannotMeasure("an earlier session of perfloop still works in the database", fix="wait, or end it: SHOW PROCESSLIST")
        yield connection
    except (pymysql.err.OperationalError, pymysql.err.InterfaceError, OSError) as error:
        if getattr(error, "args", (0,))[0] in (1227, 1238, 1231, 1232, 1193, 1142):  # grants, read-only, wrong value, unknown
            raise ChangeRefused(
                "the database refuses that", why=mysql_text(error), fix="correct the value, or the grants of the role in target.mysql_admin"
            ) from None
        raise CannotMeasure("the database did not answer", why=mysql_text(error), fix="check that it runs") from None
    except pymysql.MySQLError as error:
        raise ChangeRefused(
            "the database refuses that", why=mysql_text(error), fix="correct the value, or the grants of the role in target.mysql_admin"
        ) from None
    finally:
        connection.close()


def _execute(connection: Any, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return list(cursor.fetchall())


def _one(connection: Any, statement: str, *values: Any) -> Any:
    rows = _execute(connection, statement, *values)
    return rows[0][0] if rows else None


def _get(connection: Any, name: str) -> Any:
    value = _one(connection, f"SELECT @@GLOBAL.{name}")
    return value if value is None or isinstance(value, int | float | str) else str(value)


def _persisted(connection: Any, name: str) -> str | None:
    value = _one(connection, "SELECT VARIABLE_VALUE FROM performance_schema.persisted_variables WHERE VARIABLE_NAME = %s", name)
    return None if value is None else str(value)


def _typed(value: Any, old: Any, name: str) -> Any:
    """The value in the type of the live one: sizes in bytes, ON and OFF as 1 and 0."""
    text = str(value).strip()
    if isinstance(old, bool | int) and not isinstance(value, bool):
        size = _SIZE.match(text)
        if size:
            return int(size[1]) * 1024 ** ("KMGT".index(size[2].upper()) + 1)
        if text.upper() in ("ON", "OFF"):
            return int(text.upper() == "ON")
    try:
        return int(value) if isinstance(old, int) else float(text) if isinstance(old, float) else text
    except ValueError:
        raise ChangeRefused(f"{value!r} does not fit {name}", why=f"its value now is {old!r}", fix="write a number") from None


def _rounded(connection: Any, name: str, value: Any, maria: bool) -> Any:
    """The value that the server will really take; ``ChangeRefused`` outside the bounds that it tells, or for a variable that cannot be set while it runs."""
    if not isinstance(value, int):
        return value
    block = 1
    if maria:
        rows = _execute(
            connection,
            "SELECT NUMERIC_MIN_VALUE, NUMERIC_MAX_VALUE, NUMERIC_BLOCK_SIZE, READ_ONLY FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_NAME = %s",
            name.upper(),
        )
        if rows and rows[0][3] == "YES":
            raise ChangeRefused(f"{name} cannot be set while the server runs", fix="change its configuration file and restart it: kind config-file")
        if rows and rows[0][0] is not None and not int(rows[0][0]) <= value <= int(float(rows[0][1])):
            raise ChangeRefused(
                f"{name} = {value} is outside its bounds", why=f"the server takes {rows[0][0]} to {rows[0][1]}", fix="choose a value between them"
            )
        block = int(rows[0][2] or 1) if rows else 1
    if name == "innodb_buffer_pool_size":
        block = int(_get(connection, "innodb_buffer_pool_chunk_size") or 1) * int(
            _one(connection, "SELECT @@GLOBAL.innodb_buffer_pool_instances") if not maria else 1
        )
        return -(-value // block) * block if block > 1 else value
    return value // block * block if block > 1 else value


def _literal(value: Any) -> str:
    return str(value) if isinstance(value, int | float) else "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"


def _client_command(reference: str, statement: str) -> str:
    kind, _, name = reference.partition(":")
    where = f"${name}" if kind == "env" else f"the DSN in {name}"
    return redact(f"mariadb -h HOST -u USER -p -e {shlex.quote(statement)}   # {where}")
