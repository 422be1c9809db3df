"""Snapshots as JSON, and back. They hold values out of the tables (most common values, histograms): personal data, for private files only."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from perfloop.errors import StorageError
from perfloop.twin.snapshot import Snapshot

if TYPE_CHECKING:
    import psycopg

FORMAT = 1
TABLES_MAX = 1_000
#: what a twin can be built of: ordinary tables and materialised views, largest first
_NAMES = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%%'
  AND has_schema_privilege(n.oid, 'USAGE') ORDER BY c.relpages DESC, c.oid LIMIT %s"""


def table_names(connection: psycopg.Connection[Any]) -> tuple[str, ...]:
    """The user's tables, quoted, largest first; at most 1,000."""
    return tuple(row[0] for row in connection.execute(_NAMES, (TABLES_MAX,)).fetchall())


def dump(snapshot: Snapshot) -> dict[str, Any]:
    """Plain lists, objects, texts and numbers."""
    return {"format": FORMAT, **{field.name: getattr(snapshot, field.name) for field in fields(snapshot)}}


def load(stored: dict[str, Any]) -> Snapshot:
    """The snapshot that was dumped; ``StorageError`` where it was written by a newer perfloop or is none."""
    if stored.get("format", 0) > FORMAT:
        raise StorageError("this catalogue snapshot was written by a newer perfloop", why=f"its format is {stored['format']}", fix="upgrade perfloop")
    try:
        known = {field.name: stored[field.name] for field in fields(Snapshot) if field.name in stored}
        made = Snapshot(**{name: _tuples(value) if isinstance(value, list) else value for name, value in known.items()})
    except (TypeError, KeyError) as error:
        raise StorageError("this catalogue snapshot cannot be read", why=str(error), fix="take a new one: perfloop query takes one each time") from None
    return made


def only(snapshot: Snapshot, names: set[str]) -> Snapshot:
    """The part of a snapshot that concerns these tables (``schema.table``, quoted as PostgreSQL prints them); views stay where all they name is here."""
    oids = {table["oid"] for table in snapshot.tables if table["name"] in names}
    bare = {(table["bare_schema"], table["bare_name"]) for table in snapshot.tables if table["oid"] in oids}
    indexes = tuple(index for index in snapshot.indexes if index["table_oid"] in oids)
    bare |= {(index["bare_schema"], index["bare_name"]) for index in indexes}
    kept = {table["name"] for table in snapshot.tables if table["oid"] in oids}
    return replace(
        snapshot,
        tables=tuple(table for table in snapshot.tables if table["oid"] in oids),
        columns=tuple(column for column in snapshot.columns if column["oid"] in oids),
        indexes=indexes,
        constraints=tuple(row for row in snapshot.constraints if row["table"] in kept and (row["kind"] != "f" or _refers_to(row["definition"], kept))),
        stats=tuple(row for row in snapshot.stats if (row["schemaname"], row["relname"]) in bare),
    )


def _refers_to(definition: str, names: set[str]) -> bool:
    """True where a foreign key's definition names one of these tables (public ones are printed without their schema)."""
    return any(f"REFERENCES {name}(" in definition or f"REFERENCES {name.removeprefix('public.')}(" in definition for name in names)


def _tuples(value: Any) -> Any:
    return tuple(tuple(item) if isinstance(item, list) else item for item in value)
