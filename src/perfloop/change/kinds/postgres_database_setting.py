"""``postgres-database-setting``: one setting of one database, by ALTER DATABASE … SET: new sessions have it, other databases do not.

What the planner and a session use (work_mem, random_page_cost, enable_*), no server-wide setting. Source: PostgreSQL manual, "Setting Parameters".
"""

from __future__ import annotations

from typing import Any

from psycopg import sql

from perfloop.change.base import ChangeContext, Note, hash_of, new_id, refuse_stale
from perfloop.change.postgres import Connection, apply_refused, connected, psql, reference_of, stuck, undoing
from perfloop.errors import CannotMeasure, ChangeRefused
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal

ID = "postgres-database-setting"
OPERATION = "setting_change"
SETTABLE = ("user", "superuser")
_SETTING = "SELECT context, setting, coalesce(unit, ''), current_setting(name) FROM pg_catalog.pg_settings WHERE name = %s"
_DATABASE = (
    "SELECT substr(c, length(%s) + 2) FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c"
    " WHERE d.datname = current_database() AND s.setrole = 0 AND c LIKE %s || '=%%'"
)


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``name``, ``value``, ``dsn_ref``; ``database``, where a statement names one."""
    reference, given = reference_of(proposal, context), proposal.params
    name, value = str(given["name"]), str(given["value"])
    with connected(reference, context, "plan") as connection:
        row = connection.execute(_SETTING, (name,)).fetchone()
        if row is None:
            raise ChangeRefused(f"PostgreSQL has no setting {name}", why="pg_settings does not know it", fix="check its name")
        if row[0] not in SETTABLE:
            raise ChangeRefused(f"{name} is no setting of one database", why=f"its context is {row[0]}", fix="change it for the whole server")
        old, live = _stored(connection, name), str(row[3])
        if live == value:
            raise ChangeRefused(f"{name} is {value} already", why="pg_settings says so", fix="look again: perfloop query")
        database = connection.info.dbname
        if given.get("database", database) != database:
            raise ChangeRefused(
                f"the statement is about database {given['database']}, the connection about {database}",
                why="only the connected database is measured",
                fix=f"name {database}, or connect to {given['database']}",
            )
        make, back = _statement(connection, name, value, database), _statement(connection, name, old, database)
    params = {"dsn_ref": reference, "name": name, "new": value, "old": old, "database": database, "make": make, "back": back, "toggles": True}
    params |= {"command": f"{make};", "rollback_command": f"{back};"}
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"{name}: {live} → {value}",
        params=params,
        before={name: old},
        after={name: value},
        live_hash=hash_of([name, old]),
        diff=f"-- {name} = {live}\n{make};",
        risk="new sessions of this database may plan otherwise",
        reach=f"database {database}",
        safety=Safety.SAFE,
        undo_commands=(psql(reference, back),),
        apply_commands=(psql(reference, make),),
        resources=(f"database:{database}", f"setting:{name}"),
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """The value stored for this database (None: none)."""
    with connected(change.params["dsn_ref"], context, "read") as connection:
        return {change.params["name"]: _stored(connection, change.params["name"])}


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Stores it; sessions that begin later have it."""
    params = change.params
    try:
        with connected(params["dsn_ref"], context, change.id) as connection:
            refuse_stale(change, hash_of([params["name"], _stored(connection, params["name"])]))
            connection.execute(params["make"].encode())
    except CannotMeasure as error:
        raise apply_refused(change, error) from error


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Nothing of it goes on running."""


def verify(change: Change, context: ChangeContext) -> bool:
    """True where it is stored, and a new session has it."""
    params = change.params
    with connected(params["dsn_ref"], context, "read") as connection:
        if _stored(connection, params["name"]) != params["new"]:
            return False
        row = connection.execute(
            "SELECT setting = (SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = %s) FROM pg_catalog.pg_settings WHERE name = %s",
            (params["name"],) * 2,
        )
        return row.fetchone() is not None


def undo(change: Change, context: ChangeContext) -> None:
    """The old value (or none), unless somebody else has set a third one."""
    params = change.params
    with undoing(change, context) as connection:
        live = _stored(connection, params["name"])
        if live not in (params["new"], params["old"]):
            raise stuck(change, f"{params['name']} is {live!r}: neither ours nor the old value; somebody else changed it, and it was left alone")
        if live != params["old"]:
            connection.execute(params["back"].encode())


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where the old value is stored again."""
    return bool(read(change, context)[change.params["name"]] == change.params["old"])


def _stored(connection: Connection, name: str) -> str | None:
    row = connection.execute(_DATABASE, (name, name)).fetchone()
    return str(row[0]) if row else None


def _statement(connection: Connection, name: str, value: str | None, database: str) -> str:
    head = sql.SQL("ALTER DATABASE {}").format(sql.Identifier(database))
    tail = sql.SQL(" RESET {}").format(sql.Identifier(name)) if value is None else sql.SQL(" SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
    return (head + tail).as_string(connection)
