"""``postgres-table-options``: autovacuum thresholds and fillfactor of one table, by ALTER TABLE … SET (…), and RESET or the old values to undo.

Source: PostgreSQL manual, "Storage Parameters": SHARE UPDATE EXCLUSIVE, which stops neither reads nor writes.
"""

from __future__ import annotations

import re
from typing import Any

from perfloop.change.base import ChangeContext, Note, hash_of, new_id, refuse_stale
from perfloop.change.postgres import Connection, apply_refused, connected, psql, reference_of, stuck, table_of, undoing
from perfloop.errors import CannotMeasure, ChangeRefused
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal

ID = "postgres-table-options"
OPERATION = "setting_change"
_NAME = re.compile(r"^(?:toast\.)?(?:autovacuum_\w+|fillfactor|parallel_workers)$")
_VALUE = re.compile(r"^(?:-?\d+(?:\.\d+)?|on|off|true|false)$")


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``schema``, ``table``, ``options`` (name → value), ``dsn_ref``."""
    reference = reference_of(proposal, context)
    options = {str(name): str(value) for name, value in dict(proposal.params.get("options", {})).items()}
    bad = [f"{name} = {value}" for name, value in options.items() if not _NAME.match(name) or not _VALUE.match(value)]
    if bad or not options:
        raise ChangeRefused(f"{', '.join(bad) or 'nothing'} is no option of a table that is changed here", fix="autovacuum_*, fillfactor or parallel_workers")
    with connected(reference, context, "plan") as connection:
        oid, name = table_of(connection, str(proposal.params.get("schema", "")), str(proposal.params.get("table", "")))
        old = {key: value for key, value in _options(connection, oid).items() if key in options}
        database = connection.info.dbname
    make = f"ALTER TABLE {name} SET ({', '.join(f'{key} = {value}' for key, value in options.items())})"
    lost = [key for key in options if key not in old]
    back = [f"ALTER TABLE {name} RESET ({', '.join(lost)})"] if lost else []
    back += [f"ALTER TABLE {name} SET ({', '.join(f'{key} = {value}' for key, value in old.items())})"] if old else []
    params = {
        "dsn_ref": reference,
        "table": str(proposal.params["table"]),
        "table_oid": oid,
        "options": options,
        "old": old,
        "make": make,
        "back": back,
        "toggles": True,
    }
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"{name}: {', '.join(f'{key} = {value}' for key, value in options.items())}",
        params=params | {"command": f"{make};", "rollback_command": "; ".join(back) + ";"},
        before=dict(old),
        after={"options": [name, options]},
        live_hash=hash_of([oid, old]),
        diff=f"{make};",
        risk="autovacuum comes to this table more often",
        reach=f"table {name}",
        safety=Safety.SAFE,
        undo_commands=tuple(psql(reference, text) for text in back),
        apply_commands=(psql(reference, make),),
        resources=(f"database:{database}", f"table:{params['table']}"),
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """The options named, as they are set now."""
    with connected(change.params["dsn_ref"], context, "read") as connection:
        return _ours(connection, change)


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Sets them, waiting for the lock 2 s at most."""
    try:
        with connected(change.params["dsn_ref"], context, change.id) as connection:
            refuse_stale(change, hash_of([change.params["table_oid"], _ours(connection, change)]))
            connection.execute(change.params["make"].encode())
    except CannotMeasure as error:
        raise apply_refused(change, error) from error


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Nothing of it goes on running."""


def verify(change: Change, context: ChangeContext) -> bool:
    """True where they read as asked."""
    return bool(read(change, context) == change.params["options"])


def undo(change: Change, context: ChangeContext) -> None:
    """The old values, unless somebody else set others."""
    params = change.params
    with undoing(change, context) as connection:
        live = _ours(connection, change)
        if live not in (params["options"], params["old"]):
            raise stuck(change, f"the options are {live}: neither ours nor the old ones; somebody else changed them, and they were left alone")
        if live != params["old"]:
            for statement in params["back"]:
                connection.execute(statement.encode())


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where they read as before."""
    return bool(read(change, context) == change.params["old"])


def _options(connection: Connection, oid: int) -> dict[str, str]:
    row = connection.execute("SELECT coalesce(reloptions, '{}') FROM pg_catalog.pg_class WHERE oid = %s::bigint::oid", (oid,)).fetchone()
    return dict(text.split("=", 1) for text in row[0]) if row else {}


def _ours(connection: Connection, change: Change) -> dict[str, str]:
    return {key: value for key, value in _options(connection, change.params["table_oid"]).items() if key in change.params["options"]}
