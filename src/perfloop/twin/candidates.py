"""How big a what-if index would be, from the twin's own catalogue and statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from perfloop.twin import sizing

if TYPE_CHECKING:
    import psycopg

_ALIGN = {"c": 1, "s": 2, "i": 4, "d": 8}
_SHORT_VARLENA = 126
_DEFAULT_WIDTH = 32.0
#: types whose equal values may differ in bytes, so their b-trees never share posting lists (allequalimage is false)
_NO_DEDUP = ("numeric", "float4", "float8", "jsonb", "interval")

_INDEX = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), n.nspname, c.relname, am.amname, i.indisunique,
       quote_ident(tn.nspname) || '.' || quote_ident(t.relname), pg_get_expr(i.indpred, i.indrelid),
       coalesce((SELECT split_part(o, '=', 2)::float FROM unnest(c.reloptions) o WHERE o LIKE 'fillfactor=%%'), 90) / 100, t.oid,
       coalesce((SELECT split_part(o, '=', 2)::bool FROM unnest(c.reloptions) o WHERE o LIKE 'deduplicate_items=%%'), true)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am am ON am.oid = c.relam
JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace WHERE c.oid = %s"""

_COLUMNS = """
SELECT ia.attnum > i.indnkeyatts, ia.attlen, ia.attalign, ty.typname, s.avg_width, s.n_distinct, s.null_frac, s.most_common_freqs, i.indkey[ia.attnum - 1] = 0, ta.attname,
       format_type(ia.atttypid, -1), n.nspname, t.relname
FROM pg_index i JOIN pg_attribute ia ON ia.attrelid = i.indexrelid JOIN pg_type ty ON ty.oid = ia.atttypid
JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
LEFT JOIN pg_attribute ta ON ta.attrelid = t.oid AND ta.attnum = i.indkey[ia.attnum - 1] AND ta.attnum > 0
LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = t.relname AND s.attname = ta.attname AND NOT s.inherited
WHERE i.indexrelid = %s ORDER BY ia.attnum"""

#: column sets of the table that are unique, with the candidate's own set to compare
_UNIQUE = """
SELECT EXISTS (SELECT FROM pg_index u, pg_index c WHERE c.indexrelid = %s AND u.indrelid = c.indrelid AND u.indexrelid <> c.indexrelid
   AND u.indisunique AND u.indpred IS NULL AND NOT 0 = ANY(u.indkey)
   AND (u.indkey::int2[])[0:u.indnkeyatts - 1] <@ (c.indkey::int2[])[0:c.indnkeyatts - 1])"""


#: the most distinct values that a foreign key's columns can have: the rows that they refer to
_REFERRED = """
SELECT min(r.reltuples) FROM pg_constraint f JOIN pg_class r ON r.oid = f.confrelid JOIN pg_index c ON c.indexrelid = %s AND c.indrelid = f.conrelid
WHERE f.contype = 'f' AND r.reltuples > 0 AND f.conkey @> (c.indkey::int2[])[0:c.indnkeyatts - 1] AND (c.indkey::int2[])[0:c.indnkeyatts - 1] @> f.conkey"""

#: sizes of some values of a column, evenly chosen from its histogram: arrays pack their elements as an index does
_WIDTHS = """
SELECT pg_column_size(v) FROM pg_stats s, unnest(s.histogram_bounds::text::{type}[]) v WHERE s.schemaname = %(schema)s AND s.tablename = %(table)s AND s.attname = %(column)s AND NOT s.inherited"""
_COMMON_WIDTHS = _WIDTHS.replace("histogram_bounds", "most_common_vals")
_WIDTHS_COUNT = 101

#: (table, its key columns, the predicate of a partial index) → distinct keys, where somebody counted or sampled them
Joint = Mapping[tuple[str, frozenset[str], str], float]


@dataclass(frozen=True)
class Measured:
    """What a candidate comes to. ``pages_low`` and ``pages_high`` bound its size where the statistics do not tell how many distinct keys it has."""

    qualified: str
    schema: str
    name: str
    table: str
    rows: float
    shape: sizing.Shape
    pages_low: int
    pages_high: int
    btree: bool
    notes: tuple[str, ...]


def measure(connection: psycopg.Connection[Any], oid: int, joint: Joint) -> Measured:
    """Size and height of the index with this oid, which is empty. Tables and their statistics must be in place."""
    row = connection.execute(_INDEX, (oid,)).fetchone()
    assert row is not None
    qualified, schema, name, method, unique, table, predicate, fill, _, dedup = row
    rows = _rows(connection, table, predicate)
    columns = connection.execute(_COLUMNS, (oid,)).fetchall()
    notes = [] if method == "btree" else [f"the size of a {method} index is estimated as a b-tree's"]
    expression = any(values[8] for values in columns)
    if expression:
        notes.append("the width and the distinct values of an index expression are not known before it exists")
    table_rows = _rows(connection, table, None) if predicate else rows
    keys = [_column(values, table_rows, rows, _widths(connection, values)) for values in columns]
    covered = connection.execute(_UNIQUE, (oid,)).fetchone()
    unique = unique or bool(covered and covered[0])
    dedup = dedup and not unique and not any(values[3] in _NO_DEDUP for values in columns)

    def shape(distinct: float | None) -> sizing.Shape:
        return sizing.btree_shape(rows, keys, dedup=dedup, fill=fill, distinct=distinct)

    names = frozenset(values[9] for values in columns if not values[0])
    known = joint.get((table, names, predicate or ""))
    best = low = high = shape(known)
    if predicate and known is None and dedup:
        # at one end the predicate picks whole keys, at the other it picks rows by chance
        picked = [
            replace(key, distinct=max(1.0, min(rows, _known_distinct(values, table_rows) * rows / max(table_rows, 1.0))))
            for key, values in zip(keys, columns, strict=True)
        ]
        low = sizing.btree_shape(rows, picked, dedup=dedup, fill=fill)
    if sum(not key.included for key in keys) > 1 and known is None and dedup:
        fewest, most = sizing.distinct_bounds(rows, keys)
        referred = connection.execute(_REFERRED, (oid,)).fetchone()
        if referred and referred[0]:
            most = max(fewest, min(most, float(referred[0])))
        best, low, high = shape(most), shape(fewest), shape(most)
        if low.pages != high.pages:
            notes.append("how many distinct values several columns have together is not in the statistics: it is counted as if they were independent")
    elif expression and dedup:
        low, high = shape(1.0), shape(rows)
    return Measured(qualified, schema, name, table, rows, best, low.pages, high.pages, method == "btree", tuple(notes))


def _known_distinct(values: tuple[Any, ...], rows: float) -> float:
    distinct = values[5]
    return rows if distinct is None else float(-distinct * rows if distinct < 0 else distinct)


def _column(values: tuple[Any, ...], table_rows: float, rows: float, widths: tuple[float, ...]) -> sizing.KeyColumn:
    """``rows`` of the table's are in the index; distinct values that remain of a partial one's are those of rows picked by chance."""
    included, length, align, _, width, _, nulls, common = values[:8]
    nulls = nulls or 0.0
    distinct = _known_distinct(values, table_rows)
    if rows < table_rows and distinct > 0:
        distinct *= 1 - (1 - rows / table_rows) ** (table_rows / distinct)
        common = ()
    if length > 0:
        return sizing.KeyColumn(length, _ALIGN[align], distinct, nulls, tuple(common or ()), included)
    width = float(width or _DEFAULT_WIDTH)
    return sizing.KeyColumn(width, 1 if width <= _SHORT_VARLENA else 4, distinct, nulls, tuple(common or ()), included, widths)


def _widths(connection: psycopg.Connection[Any], values: tuple[Any, ...]) -> tuple[float, ...]:
    """101 widths that stand for the column's values: the common ones as often as they are, the rest by the histogram. Empty where all have one width, or none is known."""
    length, column, kind, schema, table = values[1], values[9], *values[10:]
    if length > 0 or column is None:
        return ()
    given = {"schema": schema, "table": table, "column": column}

    def ask(query: str) -> list[float]:
        return [float(row[0]) for row in connection.execute(query.replace("{type}", kind).encode(), given).fetchall()]

    common, spread = ask(_COMMON_WIDTHS), ask(_WIDTHS)
    shares = [float(share) for share in values[7] or ()][: len(common)]
    chosen = [width for width, share in zip(common, shares, strict=False) for _ in range(round(share * _WIDTHS_COUNT))][:_WIDTHS_COUNT]
    left = _WIDTHS_COUNT - len(chosen)
    if spread:
        chosen += [spread[int(number * len(spread) / left)] for number in range(left)]
    return tuple(chosen)


def _rows(connection: psycopg.Connection[Any], table: str, predicate: str | None) -> float:
    """The planner's own estimate of the rows that the index would hold."""
    answer = connection.execute(f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {table}{f' WHERE {predicate}' if predicate else ''}".encode()).fetchone()  # noqa: S608 - names are quoted by the server
    assert answer is not None
    return float(answer[0][0]["Plan"]["Plan Rows"])
