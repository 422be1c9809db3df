"""Reads from a target what its planner knows about a few relations: schema, sizes, statistics, settings. A read-only role suffices.

Nothing is executed but catalogue queries, EXPLAIN, and a look at the two ends of indexes. What the role may not see becomes a note, because the twin is then not exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfloop.errors import CannotMeasure
from perfloop.twin import catalog, probes

if TYPE_CHECKING:
    import psycopg

RELATIONS_MAX = 2_000
INDEXES_MAX = 10_000
_KINDS = {"p": "a partitioned table", "f": "a foreign table"}

Row = dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """What a twin is built from. ``stats`` holds values out of the tables: personal data, stored in private files only (``twin/archive.py``)."""

    version: int
    locale: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]
    schemas: tuple[str, ...]
    types: tuple[str, ...]  # statements that create enums and domains
    tables: tuple[Row, ...]
    columns: tuple[Row, ...]
    indexes: tuple[Row, ...]
    constraints: tuple[Row, ...]
    views: tuple[tuple[str, str], ...]  # (name, definition) in the order of creation
    stats: tuple[Row, ...] = field(repr=False, default=())
    heights: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def structure(snapshot: Snapshot) -> str:
    """What of a snapshot only a new twin can imitate: two with the same structure differ in settings, statistics, rows and visibility at most."""
    tables = [(row["name"], row["pages"], row["options"]) for row in snapshot.tables]
    indexes = [(row["name"], row["table"], row["definition"], row["valid"], row["pages"], snapshot.heights.get(row["name"])) for row in snapshot.indexes]
    columns = [(row["table"], row["definition"]) for row in snapshot.columns]
    keys = [(row["table"], row["name"], row["definition"]) for row in snapshot.constraints]
    return repr((snapshot.version, snapshot.locale, snapshot.schemas, snapshot.types, tables, columns, indexes, keys, snapshot.views))


def take(connection: psycopg.Connection[Any], names: tuple[str, ...], everything: bool = False) -> Snapshot:
    """Snapshot of these tables and views and what they rest on. ``CannotMeasure`` for kinds of relation that a twin cannot imitate.

    ``everything``: for the archive: what cannot be imitated is left out with a note.
    """
    notes: list[str] = []
    version = connection.info.server_version
    oids, views = _resolve(connection, names)
    tables = _rows(connection, catalog.TABLES, oids)
    for table in tuple(tables):
        if table["kind"] in _KINDS or table["inherited"]:
            if everything:
                tables.remove(table)
                oids.remove(table["oid"])
                notes.append(f"{table['name']} is not imitated: it is {_KINDS.get(table['kind'], 'a table with children')}")
                continue
            raise CannotMeasure(
                f"the planner twin cannot imitate {table['name']}",
                why=f"it is {_KINDS.get(table['kind'], 'a table with children')}",
                fix="try the change on a copy of the database",
            )
        notes += [f"row-level security on {table['name']} is not imitated"] if table["row_security"] else []
    columns = _rows(connection, catalog.COLUMNS, oids)
    indexes = _rows(connection, catalog.INDEXES, oids)
    if len(indexes) > INDEXES_MAX:
        raise CannotMeasure("the planner twin cannot imitate these tables", why=f"they have {len(indexes)} indexes, more than {INDEXES_MAX}")
    notes += [f"no privilege to read the statistics of {row['table']}.{row['column']}" for row in columns if not row["readable"]][:5]
    notes += [f"extended statistics {row['name']} are not imitated" for row in _rows(connection, catalog.EXTENDED, oids)]
    notes += [f"index {row['name']} is of type {row['method']}, whose size alone is imitated" for row in indexes if row["method"] != "btree"]
    stats = _statistics(connection, version, oids, indexes, notes)
    locale, locale_note = _locale(connection)
    return Snapshot(
        version=version,
        locale=locale,
        settings=tuple((row["name"], row["setting"]) for row in _rows(connection, catalog.SETTINGS)),
        schemas=tuple(dict.fromkeys(row["schema"] for row in (*tables, *views))),
        types=_types(connection, oids),
        tables=tuple(tables),
        columns=tuple(columns),
        indexes=tuple(indexes),
        constraints=tuple(_rows(connection, catalog.CONSTRAINTS, oids)),
        views=tuple((row["name"], row["definition"]) for row in views),
        stats=tuple(stats),
        heights=probes.heights(connection, indexes),
        notes=(*notes, *locale_note),
    )


def _rows(connection: psycopg.Connection[Any], query: str, *parameters: Any) -> list[Row]:
    from psycopg.rows import dict_row

    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), parameters or None).fetchall()


def _resolve(connection: psycopg.Connection[Any], names: tuple[str, ...]) -> tuple[list[int], list[Row]]:
    """The tables' oids, and the views between in an order in which they can be created."""
    found = [row["oid"] for row in _rows(connection, catalog.RESOLVE, list(names)) if row["oid"]]
    if not found:
        raise CannotMeasure(
            "the planner twin has no table to imitate",
            why="the query names none that this role can see",
            fix="grant the read-only role USAGE on the schema and SELECT on its tables",
        )
    relations = _rows(connection, catalog.REACHED, found)
    if len(relations) > RELATIONS_MAX:
        raise CannotMeasure("the planner twin cannot imitate this query", why=f"it touches {len(relations)} relations, more than {RELATIONS_MAX}")
    views = [row for row in relations if row["kind"] == "v"]
    return [row["oid"] for row in relations if row["kind"] != "v"], sorted(views, key=lambda row: -row["depth"])


def _statistics(connection: psycopg.Connection[Any], version: int, oids: list[int], indexes: list[Row], notes: list[str]) -> list[Row]:
    ranges = catalog.STATS_RANGES if version >= 170000 else ""
    stats = _rows(connection, catalog.STATS.format(ranges=ranges), [*oids, *(row["oid"] for row in indexes)])
    guessed = probes.expressions(connection, indexes, stats)
    notes += [f"the values of the expression in index {row['relname']} may not be read: equality alone is imitated" for row in guessed]
    return [*probes.real_ends(connection, indexes, stats), *guessed]


def _types(connection: psycopg.Connection[Any], oids: list[int]) -> tuple[str, ...]:
    rows = _rows(connection, catalog.TYPES, oids)
    strange = [row["name"] for row in rows if not row["statement"]]
    if strange:
        raise CannotMeasure(
            f"the planner twin has no type {strange[0]}", why="it comes from an extension or is composite", fix="try the change on a copy of the database"
        )
    return tuple(row["statement"] for row in sorted(rows, key=lambda row: row["oid"]))


def _locale(connection: psycopg.Connection[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """initdb's options for the database's encoding and sort order."""
    row = _rows(connection, catalog.DATABASE)[0]
    options = [f"--encoding={row['encoding']}"]
    provider, name = row["provider"], row["locale"]
    if provider == "b":
        return (*options, "--locale=C", "--locale-provider=builtin", f"--builtin-locale={name}"), ()
    if provider == "i":
        return (*options, "--locale=C"), (f"text is sorted here as in C, not by ICU {name}",)
    return (*options, f"--lc-collate={row['collate']}", f"--lc-ctype={row['ctype']}"), ()
