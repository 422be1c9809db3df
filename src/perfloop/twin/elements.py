"""What a column's statistics tell of the elements that a GIN index would hold: items of arrays, words of texts, keys and values of JSON documents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfloop.twin import inverted
from perfloop.twin.inverted import Elements
from perfloop.twin.joint import duj1

if TYPE_CHECKING:
    import psycopg

EVALUATE_MS = 1_000
FILLS = (0.95, inverted.FILL_LIKELY, 0.45)  # how full pages of entries are: at most, likely, at least
_CERTAIN = 0.005  # of the elements are not among the common ones: these are all
#: bytes of a stored document or word list for one of its elements: (fewest, usual, most)
_WORD_BYTES, _JSON_BYTES = (5.0, 11.0, 25.0), (6.0, 12.0, 30.0)
_STATS = """
SELECT s.avg_width, s.null_frac, s.most_common_elem_freqs::real[], s.elem_count_histogram::real[], coalesce(cardinality(s.most_common_elems::text::text[]), 0),
       (SELECT avg(octet_length(e)) FROM unnest(s.most_common_elems::text::text[]) e), coalesce(el.typlen, -1), t.typname, t.typcategory::text, quote_ident(a.attname)
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type el ON el.oid = t.typelem
JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname AND NOT s.inherited
WHERE n.nspname = %s AND c.relname = %s AND a.attname = %s"""
_JSON = """
WITH s AS (SELECT * FROM pg_stats WHERE schemaname = %(schema)s AND tablename = %(table)s AND attname = %(column)s AND NOT inherited),
v AS MATERIALIZED (
  SELECT row_number() OVER () AS n, u.* FROM (
    SELECT m.v, m.f::float8 AS share FROM s, ROWS FROM (unnest(most_common_vals::text::jsonb[]), unnest(most_common_freqs)) AS m(v, f)
    UNION ALL SELECT b, greatest(0, 1 - null_frac - (SELECT coalesce(sum(f), 0) FROM unnest(most_common_freqs) f))::float8 / array_length(histogram_bounds::text::jsonb[], 1)
      FROM s, unnest(histogram_bounds::text::jsonb[]) b) u),
x AS MATERIALIZED (
  SELECT DISTINCT v.n, v.share, 'v' || (p #>> '{}') AS token FROM v, jsonb_path_query(v.v, '$.**') p WHERE jsonb_typeof(p) NOT IN ('object', 'array')
  UNION SELECT v.n, v.share, 'k' || k FROM v, jsonb_path_query(v.v, '$.**') p, jsonb_object_keys(CASE WHEN jsonb_typeof(p) = 'object' THEN p ELSE '{}' END) k WHERE %(keys)s),
g AS (SELECT token, count(*) AS n, sum(share) AS share FROM x GROUP BY token)
SELECT (SELECT sum(share) FROM x) / nullif((SELECT sum(share) FROM v), 0), (SELECT count(*) FROM x), count(*), count(*) FILTER (WHERE n = 1),
       array_agg(share) FILTER (WHERE n >= 5), avg(octet_length(token)) FROM g"""


@dataclass(frozen=True)
class Column:
    """One column of a GIN index; ``name`` is None for an expression, ``width`` that of the whole value."""

    schema: str
    table: str
    name: str | None
    operators: str
    width: float


def shapes(connection: psycopg.Connection[Any], columns: Sequence[Column], rows: float, heap_pages: int) -> tuple[list[tuple[inverted.Gin, float]], bool]:
    """([the smallest, the likely, the largest index, each with its number of postings], whether the statistics tell its elements)."""
    answers = [elements(connection, one.schema, one.table, one.name, rows, one.operators == "jsonb_path_ops") if one.name else None for one in columns]
    known = all(answers)
    found = [answer or (rows, _guess(one.width, rows)) for answer, one in zip(answers, columns, strict=True)]
    made = []
    for which, fill in enumerate(FILLS):
        each = [inverted.gin_shape(filled, heap_pages, of_column[which], fill) for filled, of_column in found]
        entry_pages, data_pages = sum(one.entry_pages for one in each), sum(one.data_pages for one in each)
        merged = inverted.Gin(1 + entry_pages + data_pages, entry_pages, data_pages, sum(one.entries for one in each))
        made.append((merged, sum(filled * of_column[which].each for filled, of_column in found)))
    return made, known


def _guess(width: float, rows: float) -> tuple[Elements, Elements, Elements]:
    likely, most = max(1.0, width / 8), max(1.0, width)
    return Elements(1.0, 1.0), Elements(likely, rows / 10), Elements(most, rows * most)


def elements(
    connection: psycopg.Connection[Any], schema: str, table: str, column: str, rows: float, paths: bool
) -> tuple[float, tuple[Elements, Elements, Elements]] | None:
    """(rows that are not null, what may be: fewest, likely, most); None for types whose elements are not known. ``paths``: only hashes of JSON paths are held."""
    row = connection.execute(_STATS, (schema, table, column)).fetchone()
    if row is None or row[0] is None:
        return None
    width, nulls, freqs, counts, known, size, length, name, category, _ = row
    filled = rows * (1 - (nulls or 0.0))
    if name == "jsonb":
        found = _json(connection, {"schema": schema, "table": table, "column": column, "keys": not paths}, filled, 4.0 if paths else None)
        return filled, found or _by_width(width, filled, _JSON_BYTES)
    if category != "A" and name != "tsvector":
        return None
    shares = tuple(float(share) for share in (freqs or ())[:known])
    held = float(length) if length > 0 else float(size or 8.0) + 1
    if category == "A" and counts:
        each = (float(counts[-1]),) * 3
    elif shares:
        least = sum(shares)
        each = (max(least, width / _WORD_BYTES[2]), max(least, width / _WORD_BYTES[1]), max(least, width / _WORD_BYTES[0]))
    else:
        return filled, _by_width(width, filled, _WORD_BYTES)
    return filled, (_one(each[0], shares, held, filled, 0), _one(each[1], shares, held, filled, 1), _one(each[2], shares, held, filled, 2))


def _one(each: float, shares: Sequence[float], width: float, rows: float, which: int) -> Elements:
    rest = max(0.0, each - sum(shares))
    if rest <= _CERTAIN * each:
        return Elements(each, float(len(shares)), tuple(shares), width)
    most = len(shares) + rest * rows
    fewest = len(shares) + rest * rows / max(1.0, min(shares, default=1 / max(rows, 1.0)) * rows)
    return Elements(each, (fewest, math.sqrt(fewest * most), most)[which], tuple(shares), width)


def _by_width(width: float, rows: float, bytes_each: tuple[float, float, float]) -> tuple[Elements, Elements, Elements]:
    """Where the statistics hold no values: from the width alone, so within wide bounds."""
    low, best, high = (max(1.0, width / size) for size in reversed(bytes_each))
    return Elements(low, low), Elements(best, math.sqrt(best * rows * best)), Elements(high, high * rows)


def _json(connection: psycopg.Connection[Any], given: dict[str, Any], rows: float, width: float | None) -> tuple[Elements, Elements, Elements] | None:
    """From the documents among the column's common values and histogram bounds."""
    import psycopg

    try:
        with connection.transaction(force_rollback=True):
            connection.execute(f"SET LOCAL statement_timeout = {EVALUATE_MS}".encode())
            row = connection.execute(_JSON, given).fetchone()
    except psycopg.Error:
        return None
    if row is None or not row[0]:
        return None
    each, seen, distinct, once, shares, size = row
    common = tuple(float(share) for share in shares or ())
    whole = rows * each
    best = duj1(whole, (seen, distinct, once))
    most = distinct - once + once * whole / max(1, seen)
    held = width if width is not None else float(size) + 1
    return tuple(Elements(float(each), max(count, float(len(common))), common, held) for count in (float(distinct), best, max(most, best)))  # type: ignore[return-value]
