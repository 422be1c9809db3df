"""``postgres-analyze``: ANALYZE of a table or of some of its columns.

It reads a sample and writes statistics, nothing else. From PostgreSQL 18 on the old statistics are kept aside and can be put back; before that
they cannot, and the undo says so. Source: PostgreSQL manual, ANALYZE, and "Statistics Manipulation Functions" (18).
"""

from __future__ import annotations

from typing import Any

from psycopg import sql

from perfloop.change import column_statistics as kept
from perfloop.change.base import ChangeContext, Note, new_id
from perfloop.change.postgres import application, apply_refused, connected, end_backend, psql, reference_of, table_of, undoing
from perfloop.errors import CannotMeasure
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal

ID = "postgres-analyze"
OPERATION = "database_query_optimization"
ANALYZE_MAX_S = 240


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``schema``, ``table``, ``columns`` (empty: all), ``dsn_ref``."""
    reference = reference_of(proposal, context)
    columns = [str(column) for column in proposal.params.get("columns", ())]
    with connected(reference, context, "plan") as connection:
        oid, name = table_of(connection, str(proposal.params.get("schema", "")), str(proposal.params.get("table", "")))
        statement = sql.SQL("ANALYZE ").as_string(connection) + name
        if columns:
            statement += f" ({', '.join(sql.Identifier(column).as_string(connection) for column in columns)})"
        restores = connection.info.server_version >= kept.RESTORES_FROM
        database = connection.info.dbname
    undo = "the old statistics are put back from the before-image" if restores else "statistics cannot be put back before PostgreSQL 18: SELECT 1"
    params = {"dsn_ref": reference, "schema": str(proposal.params.get("schema") or "public"), "table": str(proposal.params["table"]), "columns": columns}
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"analyze {name}",
        params=params | {"table_oid": oid, "command": f"{statement};", "rollback_command": f"-- {undo}", "toggles": restores, "database": database},
        before={"statistics": "as they are"},
        after={"statistics": [params["schema"], params["table"], columns]},
        diff=f"{statement};",
        risk="reads a sample of the table (about 30,000 rows at the default target); takes no lock that stops reads or writes",
        reach=f"database {database}",
        safety=Safety.SAFE,
        undo_commands=(f"perfloop rollback   # {undo}",),
        apply_commands=(psql(reference, statement),),
        resources=(f"database:{database}", f"table:{params['table']}"),
        lint=() if restores else ("before PostgreSQL 18 old statistics cannot be put back; an ANALYZE changes no data",),
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """Which columns have statistics now."""
    with connected(change.params["dsn_ref"], context, "read") as connection:
        return {"columns": kept.present(connection, change)}


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Keeps the old statistics aside where that is possible, then analyses."""
    try:
        with connected(change.params["dsn_ref"], context, change.id, ANALYZE_MAX_S, lock_s=10) as connection:
            kept.keep_aside(connection, change, context)
            note({"type": "postgresql", "pid": connection.info.backend_pid, "application_name": application(change.id)})
            connection.execute(change.params["command"].encode())
    except CannotMeasure as error:
        raise apply_refused(change, error) from error


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Ends an ANALYZE that goes on without us."""
    end_backend(backend, change, context)


def verify(change: Change, context: ChangeContext) -> bool:
    """True where every column asked for has statistics."""
    with connected(change.params["dsn_ref"], context, "read") as connection:
        return all(kept.present(connection, change).values())


def undo(change: Change, context: ChangeContext) -> None:
    """Puts the old statistics back, where they were kept; else there is nothing to put back."""
    with undoing(change, context) as connection:
        kept.put_back(connection, change, context)


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where the columns have statistics exactly where they had, as far as that was kept."""
    image = kept.image_of(change, context)
    if image is None or not image.exists():
        return True
    import json

    from perfloop.host.files import read_limited

    before = {row[0]: any(value is not None for value in row[1:]) for row in json.loads(read_limited(image, 64 * 2**20))}
    with connected(change.params["dsn_ref"], context, "read") as connection:
        return kept.present(connection, change) == before
