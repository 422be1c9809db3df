"""Creates the target's schema in the empty server: in one go, and one by one where that fails, so that what cannot be imitated is told by name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from perfloop.errors import CannotMeasure
from perfloop.twin.snapshot import Snapshot

if TYPE_CHECKING:
    import psycopg

Failed = Callable[[str, Exception], None]
_MESSAGE = 100  # statements in one message
logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns on stderr when a pipeline ends with an error, which is handled here


def create(owner: psycopg.Connection[Any], snapshot: Snapshot, failed: Failed) -> None:
    """Settings, schemas, types, tables, indexes, keys and views. ``CannotMeasure`` where a table, type or view cannot be made; the rest is told to ``failed``."""
    import psycopg

    for name, value in snapshot.settings:
        try:
            owner.execute("SELECT set_config(%s, %s, false)", (name, value))
        except psycopg.Error as error:
            failed(f"setting {name}", error)
    _run(owner, list(_relations(snapshot)), None)
    _run(owner, list(_indexes(snapshot)), failed)
    _run(owner, [(f"view {name}", f"CREATE VIEW {name} AS {definition}") for name, definition in snapshot.views], None)


def _first_keys(snapshot: Snapshot) -> dict[str, tuple[int, str]]:
    """Table → (index, constraint) of the primary or unique key that is its oldest index: made with the table, which is cheaper than altering it."""
    keys = {row["index_oid"]: row for row in snapshot.constraints if row["kind"] in ("p", "u")}
    oldest: dict[str, int] = {}
    for index in snapshot.indexes:
        oldest.setdefault(index["table"], index["oid"] if index["valid"] else 0)
    return {table: (oid, f"CONSTRAINT {keys[oid]['name']} {keys[oid]['definition']}") for table, oid in oldest.items() if oid in keys}


def _relations(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    first = {table: (constraint,) for table, (_, constraint) in _first_keys(snapshot).items()}
    columns: dict[int, list[str]] = {}
    for row in snapshot.columns:
        columns.setdefault(row["oid"], []).append(row["definition"])
    for name in snapshot.schemas:
        yield f"schema {name}", f"CREATE SCHEMA IF NOT EXISTS {name}"
    for statement in snapshot.types:
        yield "type", statement
    for table in snapshot.tables:
        options = f" WITH ({table['options']})" if table["options"] else ""
        body = [*columns.get(table["oid"], ()), *first.get(table["name"], ())]
        yield f"table {table['name']}", f"CREATE TABLE {table['name']} ({', '.join(body)}){options}"


def _indexes(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """In the order of creation, which breaks ties between equal costs; foreign keys last."""
    keys = {row["index_oid"]: row for row in snapshot.constraints if row["kind"] != "f"}
    made = {oid for oid, _ in _first_keys(snapshot).values()}
    for index in snapshot.indexes:
        key = keys.get(index["oid"])
        if index["valid"] and index["oid"] not in made:
            yield f"index {index['name']}", f"ALTER TABLE {key['table']} ADD CONSTRAINT {key['name']} {key['definition']}" if key else index["definition"]
    for key in snapshot.constraints:
        if key["kind"] == "f":
            yield f"foreign key {key['name']}", f"ALTER TABLE {key['table']} ADD CONSTRAINT {key['name']} {key['definition']}"


def _run(owner: psycopg.Connection[Any], statements: list[tuple[str, str]], failed: Failed | None) -> None:
    """All in one transaction, many in one message; where that fails, one by one, and what fails then ends it, or is told to ``failed``."""
    import psycopg

    try:
        with owner.transaction():
            for start in range(0, len(statements), _MESSAGE):
                owner.execute(";\n".join(statement for _, statement in statements[start : start + _MESSAGE]).encode())
    except psycopg.Error:
        for what, statement in statements:
            try:
                owner.execute(statement.encode())
            except psycopg.Error as error:
                if failed is None:
                    raise CannotMeasure(
                        f"the planner twin cannot imitate {what}", why=str(error).strip().split("\n", 1)[0], fix="try the change on a copy of the database"
                    ) from error
                failed(what, error)
