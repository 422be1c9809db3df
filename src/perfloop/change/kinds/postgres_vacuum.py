"""``postgres-vacuum``: VACUUM of one table, which lets its room be used again and sets the visibility map. It changes no data, so there is nothing to undo.

Source: PostgreSQL manual, "Routine Vacuuming".
"""

from __future__ import annotations

from typing import Any

from perfloop.change.base import ChangeContext, Note, new_id
from perfloop.change.postgres import application, apply_refused, connected, end_backend, psql, reference_of, table_of
from perfloop.errors import CannotMeasure
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal

ID = "postgres-vacuum"
OPERATION = "database_query_optimization"
VACUUM_MAX_S = 280
NOTHING = "a vacuum changes no data: nothing to undo"


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``schema``, ``table``, ``dsn_ref``."""
    reference = reference_of(proposal, context)
    with connected(reference, context, "plan") as connection:
        oid, name = table_of(connection, str(proposal.params.get("schema", "")), str(proposal.params.get("table", "")))
        database = connection.info.dbname
    statement = f"VACUUM (ANALYZE) {name}"
    params = {"dsn_ref": reference, "schema": str(proposal.params.get("schema") or "public"), "table": str(proposal.params["table"]), "table_oid": oid}
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"vacuum {name}",
        params=params | {"command": f"{statement};", "rollback_command": f"-- {NOTHING}", "toggles": False, "database": database},
        after={"vacuum": [params["schema"], params["table"]]},
        diff=f"{statement};",
        risk="reads the table and writes what it cleans; takes no lock that stops reads or writes",
        reach=f"database {database}",
        safety=Safety.SAFE,
        undo_commands=(f"true   # {NOTHING}",),
        apply_commands=(psql(reference, statement),),
        resources=(f"database:{database}", f"table:{params['table']}"),
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """How often the table was vacuumed by hand."""
    with connected(change.params["dsn_ref"], context, "read") as connection:
        row = connection.execute(
            "SELECT vacuum_count FROM pg_catalog.pg_stat_all_tables WHERE relid = %s::bigint::oid", (change.params["table_oid"],)
        ).fetchone()
        return {"vacuum_count": int(row[0]) if row else None}


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Vacuums; the backend is recorded first."""
    try:
        with connected(change.params["dsn_ref"], context, change.id, VACUUM_MAX_S, lock_s=10) as connection:
            note({"type": "postgresql", "pid": connection.info.backend_pid, "application_name": application(change.id)})
            connection.execute(change.params["command"].encode())
    except CannotMeasure as error:
        raise apply_refused(change, error) from error


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Ends a VACUUM that goes on without us."""
    end_backend(backend, change, context)


def verify(change: Change, context: ChangeContext) -> bool:
    """True where the table is there: VACUUM itself tells of failures."""
    return read(change, context)["vacuum_count"] is not None


def undo(change: Change, context: ChangeContext) -> None:
    """Nothing to do."""


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """Nothing of it has an effect on data."""
    return True
