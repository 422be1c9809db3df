"""``postgres-statistics``: a column's statistics target, or extended statistics on several columns; with the ANALYZE that fills them.

The undo sets the old target and analyses again, or drops the statistics object. Source: PostgreSQL manual, "Statistics Used by the Planner".
"""

from __future__ import annotations

from typing import Any

from psycopg import sql

from perfloop.change.base import ChangeContext, Note, hash_of, new_id, refuse_stale
from perfloop.change.postgres import Connection, application, apply_refused, connected, end_backend, psql, reference_of, stuck, table_of, undoing
from perfloop.errors import CannotMeasure, ChangeRefused
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal

ID = "postgres-statistics"
OPERATION = "database_query_optimization"
ANALYZE_MAX_S = 240
_TARGET = "SELECT coalesce(to_jsonb(a) ->> 'attstattarget', '-1')::int FROM pg_catalog.pg_attribute a WHERE a.attrelid = %s::bigint::oid AND a.attname = %s AND NOT a.attisdropped"
_EXTENDED = (
    "SELECT quote_ident(n.nspname) || '.' || quote_ident(e.stxname) FROM pg_catalog.pg_statistic_ext e JOIN pg_catalog.pg_namespace n ON n.oid = e.stxnamespace"
    " WHERE e.stxrelid = %s::bigint::oid AND e.stxname = %s"
)


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``schema``, ``table``, ``columns``; ``target`` (1–10,000) or ``extended`` with ``name``; ``dsn_ref``."""
    reference, given = reference_of(proposal, context), proposal.params
    columns = [str(column) for column in given.get("columns", ())]
    with connected(reference, context, "plan") as connection:
        oid, table = table_of(connection, str(given.get("schema", "")), str(given.get("table", "")))
        quoted = [sql.Identifier(column).as_string(connection) for column in columns]
        old = {column: _target(connection, oid, column) for column in columns}
        if given.get("extended"):
            schema = sql.Identifier(str(given.get("schema") or "public")).as_string(connection)
            name = sql.Identifier(str(given["name"])).as_string(connection)
            if connection.execute(_EXTENDED, (oid, str(given["name"]))).fetchone():
                raise ChangeRefused(
                    f"the statistics {given['name']} exist already", why="they are on this table", fix="ANALYZE the table, and look at the plan again"
                )
            make = [f"CREATE STATISTICS {schema}.{name} (ndistinct, dependencies, mcv) ON {', '.join(quoted)} FROM {table}", f"ANALYZE {table}"]
            back = [f"DROP STATISTICS {schema}.{name}"]
        else:
            target = int(given["target"])
            if not 1 <= target <= 10_000:
                raise ChangeRefused(f"a statistics target of {target} is outside 1 to 10,000", fix="choose one between them")
            make = [f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS {target}" for column in quoted] + [f"ANALYZE {table} ({', '.join(quoted)})"]
            back = [f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS {old[bare]}" for bare, column in zip(columns, quoted, strict=True)]
            back.append(f"ANALYZE {table} ({', '.join(quoted)})")
        database = connection.info.dbname
    params = {"dsn_ref": reference, "schema": str(given.get("schema") or "public"), "table": str(given["table"]), "table_oid": oid, "columns": columns}
    params |= {"target": given.get("target"), "name": given.get("name") if given.get("extended") else None, "old": old, "make": make, "back": back}
    params |= {"command": "; ".join(make) + ";", "rollback_command": "; ".join(back) + ";", "toggles": True, "database": database}
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"statistics of {table}",
        params=params,
        before={"targets": old, "extended": None},
        after={"statistics": [params["schema"], params["table"], columns, given.get("target"), params["name"]]},
        live_hash=hash_of([oid, old]),
        diff="\n".join(f"{statement};" for statement in make),
        risk="planning looks at more; ANALYZE reads a larger sample",
        reach=f"database {database}",
        safety=Safety.SAFE,
        undo_commands=tuple(psql(reference, statement) for statement in back),
        apply_commands=tuple(psql(reference, statement) for statement in make),
        resources=(f"database:{database}", f"table:{params['table']}"),
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """The targets of the columns, and the name of the extended statistics where they exist."""
    with connected(change.params["dsn_ref"], context, "read") as connection:
        return _state(connection, change)


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Sets targets (or creates the statistics) and analyses."""
    try:
        with connected(change.params["dsn_ref"], context, change.id, ANALYZE_MAX_S) as connection:
            state = _state(connection, change)
            refuse_stale(change, hash_of([change.params["table_oid"], state["targets"]]))
            note({"type": "postgresql", "pid": connection.info.backend_pid, "application_name": application(change.id)})
            for statement in change.params["make"]:
                connection.execute(statement.encode())
    except CannotMeasure as error:
        raise apply_refused(change, error) from error


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Ends an ANALYZE that goes on without us."""
    end_backend(backend, change, context)


def verify(change: Change, context: ChangeContext) -> bool:
    """True where the targets, or the extended statistics, are as asked."""
    state = read(change, context)
    if change.params["name"]:
        return state["extended"] is not None
    return all(target == change.params["target"] for target in state["targets"].values())


def undo(change: Change, context: ChangeContext) -> None:
    """The old targets and a new ANALYZE, or no more extended statistics; what somebody else set meanwhile is left alone."""
    params = change.params
    with undoing(change, context, ANALYZE_MAX_S) as connection:
        state = _state(connection, change)
        if params["name"]:
            if state["extended"] is not None:
                connection.execute(params["back"][0].encode())
            return
        moved = {column: value for column, value in state["targets"].items() if value not in (params["target"], params["old"][column])}
        if moved:
            raise stuck(change, f"the statistics target of {', '.join(moved)} is neither ours nor the old one: somebody else changed it, and it was left alone")
        for statement in params["back"]:
            connection.execute(statement.encode())


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where the old targets stand and the extended statistics are gone."""
    state = read(change, context)
    return state["extended"] is None if change.params["name"] else state["targets"] == change.params["old"]


def _state(connection: Connection, change: Change) -> dict[str, Any]:
    params = change.params
    extended = connection.execute(_EXTENDED, (params["table_oid"], params["name"])).fetchone() if params["name"] else None
    return {
        "targets": {column: _target(connection, params["table_oid"], column) for column in params["columns"]},
        "extended": extended[0] if extended else None,
    }


def _target(connection: Connection, oid: int, column: str) -> int:
    row = connection.execute(_TARGET, (oid, column)).fetchone()
    if row is None:
        raise ChangeRefused(f"there is no column {column}", why="the catalogue does not know it", fix="check the query")
    return int(row[0])
