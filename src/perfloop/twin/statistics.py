"""Gives the twin's columns the target's statistics: by the server's own restore functions since 18, as rows of pg_statistic before.

``pg_stats``, which a role with SELECT may read, shows all that is in ``pg_statistic`` but operators and collations; these follow from the
column's type (analyze.c, array_typanalyze.c, rangetypes_typanalyze.c). Statistics of extended statistics objects cannot be restored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

Row = dict[str, Any]
Failed = Callable[[str, Exception], None]

RESTORE_SINCE = 180000
_TYPES = {
    "null_frac": "real",
    "avg_width": "integer",
    "n_distinct": "real",
    "most_common_freqs": "real[]",
    "correlation": "real",
    "most_common_elem_freqs": "real[]",
    "elem_count_histogram": "real[]",
    "range_empty_frac": "real",
}
_IDENTITY = ("schemaname", "relname", "attname", "inherited")
_NOT_STATS = (*_IDENTITY, "table", "quoted_column", "type")
_FLOAT8_LESS = 672
_SLOTS_MAX = 5
_BATCH = 2_000

_PLACES = range(1, _SLOTS_MAX + 1)
#: rows of pg_statistic out of JSON (the fields of ``_fields``)
_INSERT = f"""
INSERT INTO pg_statistic (starelid, staattnum, stainherit, stanullfrac, stawidth, stadistinct,
  {", ".join(f"stakind{n}, staop{n}, stacoll{n}, stanumbers{n}, stavalues{n}" for n in _PLACES)})
SELECT oid, number, inherited, nulls, width, different,
  {", ".join(f"coalesce(kind{n}, 0), coalesce(op{n}, 0), coalesce(coll{n}, 0), numbers{n}, array_in(textout(values{n}), type{n}, -1)" for n in _PLACES)}
FROM json_to_recordset(%s::json) AS r(oid oid, number int2, inherited bool, nulls real, width int, different real,
  {", ".join(f"kind{n} int2, op{n} oid, coll{n} oid, numbers{n} real[], values{n} text, type{n} oid" for n in _PLACES)})"""  # noqa: S608 - our own names only
_RELATIONS = """
UPDATE pg_class c SET relpages = r.pages, reltuples = r.tuples, relallvisible = r.visible
FROM json_to_recordset(%s::json) AS r(schema name, name name, pages int, tuples real, visible int), pg_namespace n
WHERE n.nspname = r.schema AND n.oid = c.relnamespace AND c.relname = r.name"""

#: of each column: its type and operators by the default b-tree class, its elements' likewise
_ATTRIBUTES = """
WITH classes AS (
  SELECT c.opcintype AS type, max(o.amopopr) FILTER (WHERE o.amopstrategy = 1) AS less, max(o.amopopr) FILTER (WHERE o.amopstrategy = 3) AS equal
  FROM pg_opclass c JOIN pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree'
  JOIN pg_amop o ON o.amopfamily = c.opcfamily AND o.amoplefttype = c.opcintype AND o.amoprighttype = c.opcintype AND o.amopstrategy IN (1, 3)
  WHERE c.opcdefault GROUP BY 1),
types AS (
  SELECT t.oid, t.typelem, t.typtype, t.typcategory, coalesce(nullif(t.typbasetype, 0), t.oid) AS base,
         CASE t.typtype WHEN 'e' THEN 'anyenum'::regtype WHEN 'r' THEN 'anyrange'::regtype ELSE CASE t.typcategory WHEN 'A' THEN 'anyarray'::regtype END END AS poly FROM pg_type t),
operators AS (
  SELECT t.oid, t.typelem, t.typtype, t.typcategory, k.less, k.equal FROM types t LEFT JOIN LATERAL (
    SELECT c.less, c.equal FROM classes c
    WHERE c.type = t.base OR c.type = t.poly
       OR EXISTS (SELECT FROM pg_cast b WHERE b.castsource = t.base AND b.casttarget = c.type AND b.castmethod = 'b' AND b.castcontext = 'i')
    ORDER BY c.type = t.base DESC, c.type = t.poly DESC, c.type LIMIT 1) k ON true)
SELECT n.nspname, c.relname, a.attname, c.oid, a.attnum, a.atttypid, a.attcollation, o.less, o.equal, o.typtype = 'r',
       CASE WHEN a.atttypid = 'tsvector'::regtype THEN 'text'::regtype ELSE o.typelem END,
       CASE WHEN a.atttypid = 'tsvector'::regtype THEN (SELECT equal FROM classes WHERE type = 'text'::regtype) ELSE e.equal END,
       CASE WHEN a.atttypid = 'tsvector'::regtype THEN 'default'::regcollation ELSE a.attcollation END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
JOIN operators o ON o.oid = a.atttypid LEFT JOIN operators e ON e.oid = o.typelem
WHERE c.oid >= 16384 AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'm', 'i', 'p')"""


def restore(admin: psycopg.Connection[Any], stats: Sequence[Row], failed: Failed) -> None:
    """Write the statistics of all columns in one go; where that fails, one by one, and ``failed(what, error)`` hears of each that does not go."""
    if admin.info.server_version >= RESTORE_SINCE:
        _execute(admin, [_by_function(row) for row in stats], failed)
        return
    attributes = {row[:3]: row[3:] for row in admin.execute(_ATTRIBUTES.encode()).fetchall()}
    known = [(row, attributes.get((row["schemaname"], row["relname"], row["attname"]))) for row in stats]
    _insert(admin, _INSERT, [(f"{row['relname']}.{row['attname']}", _fields(row, attribute)) for row, attribute in known if attribute is not None], failed)


def restore_relations(admin: psycopg.Connection[Any], relations: Sequence[Row], failed: Failed) -> None:
    """Write ``relpages``, ``reltuples`` and ``relallvisible`` of these relations (keys: bare_schema, bare_name, relpages, reltuples, relallvisible)."""
    rows = [
        (
            item["bare_name"],
            {
                "schema": item["bare_schema"],
                "name": item["bare_name"],
                "pages": item["relpages"],
                "tuples": str(item["reltuples"]),
                "visible": item.get("relallvisible") or 0,
            },
        )
        for item in relations
    ]
    _insert(admin, _RELATIONS, rows, failed)


def _insert(admin: psycopg.Connection[Any], query: str, rows: Sequence[tuple[str, Row]], failed: Failed) -> None:
    """All rows by one statement, which reads them as JSON; where that fails, one by one."""
    import psycopg

    def execute(some: Sequence[tuple[str, Row]]) -> None:
        admin.execute(query.encode(), (json.dumps([fields for _, fields in some], ensure_ascii=False),))

    try:
        for start in range(0, len(rows), _BATCH):
            execute(rows[start : start + _BATCH])
    except psycopg.Error:
        for row in rows:
            try:
                execute([row])
            except psycopg.errors.UniqueViolation:
                continue  # of a batch that went through
            except psycopg.Error as error:
                failed(f"statistics of {row[0]}", error)


Statement = tuple[str, str, tuple[Any, ...]]  # what it is about, text, parameters


def _execute(admin: psycopg.Connection[Any], statements: Sequence[Statement], failed: Failed) -> None:
    import psycopg

    try:
        with admin.transaction(), admin.pipeline():
            for _, query, parameters in statements:
                admin.execute(query.encode(), parameters)
    except psycopg.Error:
        for what, query, parameters in statements:
            try:
                admin.execute(query.encode(), parameters)
            except psycopg.Error as error:
                failed(f"statistics of {what}", error)


def _by_function(row: Row) -> Statement:
    given = [(name, value) for name, value in row.items() if value is not None and name not in _NOT_STATS]
    values = ", ".join(f"'{name}', %s::{_TYPES.get(name, 'text')}" for name, _ in given)
    query = f"SELECT pg_restore_attribute_stats('schemaname', %s::text, 'relname', %s::text, 'attname', %s::text, 'inherited', %s::boolean, {values})"
    return f"{row['relname']}.{row['attname']}", query, (*(row[name] for name in _IDENTITY), *(value for _, value in given))


def _fields(row: Row, attribute: tuple[Any, ...]) -> Row:
    """One row of pg_statistic, without what is null. Its values are text of an array, which ``array_in`` reads as the type that they have."""
    oid, number, type_oid, collation, less, equal, is_range, element, element_equal, element_collation = attribute
    slots: list[tuple[int, int, int, str | None, tuple[str, int] | None]] = []  # kind, operator, collation, numbers, (values, their type)
    if equal and row.get("most_common_vals") is not None:
        slots.append((1, equal, collation, row["most_common_freqs"], (row["most_common_vals"], type_oid)))
    if less and row.get("histogram_bounds") is not None:
        slots.append((2, less, collation, None, (row["histogram_bounds"], type_oid)))
    if less and row.get("correlation") is not None:
        slots.append((3, less, collation, f"{{{row['correlation']}}}", None))
    if element_equal and row.get("most_common_elems") is not None:
        slots.append((4, element_equal, element_collation, row["most_common_elem_freqs"], (row["most_common_elems"], element)))
    if element_equal and row.get("elem_count_histogram") is not None:
        slots.append((5, element_equal, element_collation, row["elem_count_histogram"], None))
    if is_range and row.get("range_length_histogram") is not None:
        slots.append((6, _FLOAT8_LESS, 0, f"{{{row.get('range_empty_frac') or 0}}}", (row["range_length_histogram"], 701)))
    if is_range and row.get("range_bounds_histogram") is not None:
        slots.append((7, 0, 0, None, (row["range_bounds_histogram"], type_oid)))
    fields = {"oid": oid, "number": number, "inherited": row["inherited"], "nulls": row["null_frac"], "width": row["avg_width"], "different": row["n_distinct"]}
    for place, (kind, operator, collated, numbers, array) in enumerate(slots[:_SLOTS_MAX], 1):
        fields |= {f"kind{place}": kind, f"op{place}": operator, f"coll{place}": collated, f"numbers{place}": numbers}
        fields |= {f"values{place}": array[0], f"type{place}": array[1]} if array else {}
    return {name: value for name, value in fields.items() if value is not None}
