"""``postgres-index-definition``: an index exactly as a definition says (operator classes, expressions, conditions), built concurrently, and dropped to undo.

For an index that a migration dropped, left invalid or rebuilt otherwise. Source: PostgreSQL manual, "Building Indexes Concurrently".
"""

from __future__ import annotations

import re
import time
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from perfloop.change import building, indexes
from perfloop.change.base import ChangeContext, Note, new_id
from perfloop.change.postgres import Connection, application, apply_refused, connected, end_backend, psql, reference_of, stuck, text_of, undoing
from perfloop.errors import CannotMeasure, ChangeRefused
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal

ID = "postgres-index-definition"
OPERATION = "index_creation"
BUILD_MAX_S = 280
BUILD_LOCK_MAX_S = 120
DROP_MAX_S = 200.0
OLDEST_TRANSACTION_MAX_S = 60.0
_DEFINITION = re.compile(
    r"^CREATE (?P<unique>UNIQUE )?INDEX (?:CONCURRENTLY )?(?P<name>(?:\"(?:[^\"]|\"\")+\"|[^\s\"(]+) )?ON (?:ONLY )?(?P<rest>(?P<table>(?:\"(?:[^\"]|\"\")+\"|\w+)(?:\.(?:\"(?:[^\"]|\"\")+\"|\w+))?)[\s(].*)$",
    re.S,
)
_STATE = "SELECT i.indisvalid AND i.indisready, pg_catalog.pg_get_indexdef(c.oid) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s"
_FREE = "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s)"


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``definition`` (CREATE INDEX …, as ``pg_get_indexdef`` prints it), ``dsn_ref``. The name of then is used where it is free."""
    reference, definition = reference_of(proposal, context), str(proposal.params["definition"]).strip().rstrip(";")
    match = _DEFINITION.match(definition)
    if match is None or ";" in definition:
        raise ChangeRefused("this is no definition of an index", why=definition[:100], fix="give what pg_get_indexdef prints")
    with connected(reference, context, "plan") as connection:
        row = connection.execute(
            "SELECT n.nspname::text, c.relname::text, c.oid::bigint FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%s)",
            (match["table"],),
        ).fetchone()
        if row is None:
            raise ChangeRefused(f"there is no table {match['table']}", why="the catalogue does not know it", fix="check the search path")
        schema, table, oid = str(row[0]), str(row[1]), int(row[2])
        name = _free_name(connection, schema, (match["name"] or "").strip().strip('"') or f"idx_{table}_perfloop")
        make = sql.SQL("CREATE {}INDEX CONCURRENTLY {} ON ").format(sql.SQL(match["unique"] or ""), sql.Identifier(name)).as_string(connection) + match["rest"]
        drop = sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(schema, name)).as_string(connection)
        database = connection.info.dbname
    params = {
        "dsn_ref": reference,
        "schema": schema,
        "table": table,
        "table_oid": oid,
        "index": name,
        "make": make,
        "back": drop,
        "database": database,
        "toggles": True,
    }
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"index {name} on {table}",
        params=params | {"command": f"{make};", "rollback_command": f"{drop};"},
        before={"index": None},
        after={"index": [schema, make]},
        diff=f"{make};",
        risk=f"writes to {table} become a little slower, and its disk use grows by the index",
        reach=f"database {database}",
        safety=Safety.SAFE,
        undo_commands=(psql(reference, drop),),
        apply_commands=(psql(reference, make),),
        resources=(f"database:{database}", f"table:{table}", f"index:{name}"),
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """``index``: ``valid``, ``invalid``, or None."""
    with connected(change.params["dsn_ref"], context, "read") as connection:
        return {"index": _state(connection, change)}


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Builds it without blocking writes; what a failed build leaves is dropped by the undo."""
    try:
        with connected(change.params["dsn_ref"], context, change.id, BUILD_MAX_S, BUILD_LOCK_MAX_S) as connection:
            if _state(connection, change) is not None:
                raise ChangeRefused(f"not applied: {change.title}", why=f"an index {change.params['index']} exists meanwhile", fix="make a new plan")
            note({"type": "postgresql", "pid": connection.info.backend_pid, "application_name": application(change.id), "index": change.params["index"]})
            if blocked := _obstacle(connection, change):
                raise ChangeRefused(f"not applied: {change.title}", why=blocked, fix="wait until that has passed, then run this again")
            params = change.params
            watch = partial(connected, params["dsn_ref"], context, "watch")
            until = time.monotonic() + BUILD_MAX_S / 2
            building.build(watch, connection, params["make"], params["table_oid"], (params["schema"], params["index"]), until)
    except CannotMeasure as error:
        raise apply_refused(change, error) from error


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Ends a build that goes on without us."""
    end_backend(backend, change, context)


def verify(change: Change, context: ChangeContext) -> bool:
    """True where the index is valid and ready."""
    return bool(read(change, context)["index"] == "valid")


def undo(change: Change, context: ChangeContext) -> None:
    """Drops it, valid or not, as often as it takes."""
    deadline, last = time.monotonic() + DROP_MAX_S, ""
    while time.monotonic() < deadline:
        with undoing(change, context) as connection:
            if _state(connection, change) is None:
                return
            try:
                last = building.drop(partial(connected, change.params["dsn_ref"], context, "watch"), connection, change.params["back"])
            except (psycopg.Error, CannotMeasure) as error:
                last = text_of(error) if isinstance(error, psycopg.Error) else error.why or error.what
            if last:
                time.sleep(0.5)
    raise stuck(change, last or "it could not be dropped in time")


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where no index of that name is left."""
    return read(change, context)["index"] is None


def _obstacle(connection: Connection, change: Change) -> str:
    table = indexes.table(connection, change.params["schema"], change.params["table"])
    return indexes.obstacle(connection, table, None, OLDEST_TRANSACTION_MAX_S) if table else f"the table {change.params['table']} is gone"


def _state(connection: Connection, change: Change) -> str | None:
    row = connection.execute(_STATE, (change.params["schema"], change.params["index"])).fetchone()
    return None if row is None else "valid" if row[0] else "invalid"


def _free_name(connection: Connection, schema: str, wanted: str) -> str:
    for number in range(1, 100):
        name = wanted.encode()[:58].decode(errors="ignore") + (f"_{number}" if number > 1 else "") if number > 1 else wanted
        row = connection.execute(_FREE, (schema, name)).fetchone()
        if row and row[0]:
            return name
    raise ChangeRefused(f"no free name for the index {wanted}", why="a hundred are taken", fix="drop what is not used")
