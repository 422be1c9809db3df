"""Statistics of an index expression that does not exist yet: the expression applied to the values that the column's statistics hold.

A column's most common values and histogram bounds are values of it, each with the share of rows that it stands for. What the expression makes of them tells its
nulls, width, common values and order, and bounds how many distinct values it has: two bounds that become one value show that it folds values together.
Only built-in expressions of one column; they are evaluated in the twin, on values that are there already.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfloop.twin.joint import duj1

if TYPE_CHECKING:
    import psycopg

EVALUATE_MS = 1_000
COMMON_MAX = 100
UNSEEN = 3
SAMPLE_ROWS = 30_000  # of ANALYZE at its default target
DEVIATIONS = 2.0  # of chance, that a range covers
#: a histogram of n bounds, all of which become different values, comes of at least so many: n² / 8 by chance (2 % otherwise), n where order is kept
_BIRTHDAY = 8.0
_WORD = re.compile(r'"(?:[^"]|"")+"|[A-Za-z_][\w$]*')

_COLUMNS = """
SELECT quote_ident(a.attname), a.attname::text, format_type(a.atttypid, -1) FROM pg_attribute a WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped"""
_VALUES = """
WITH s AS MATERIALIZED (
  SELECT *, (SELECT coalesce(sum(f), 0) FROM unnest(most_common_freqs) f) AS common FROM pg_stats WHERE schemaname = %(schema)s AND tablename = %(table)s AND attname = %(column)s AND NOT inherited),
v AS (
  SELECT u.v AS {column}, u.f::float8 AS share, true AS common FROM s, ROWS FROM (unnest(s.most_common_vals::text::{kind}[]), unnest(s.most_common_freqs)) AS u(v, f)
  UNION ALL SELECT NULL::{kind}, null_frac::float8, true FROM s WHERE null_frac > 0
  UNION ALL SELECT b, greatest(0, 1 - null_frac - s.common)::float8 / array_length(histogram_bounds::text::{kind}[], 1), false FROM s, unnest(histogram_bounds::text::{kind}[]) b),
e AS MATERIALIZED (SELECT {expression} AS x, share, common, {column} AS of FROM v),
g AS MATERIALIZED (
  SELECT x, sum(share) AS share, coalesce(sum(share) FILTER (WHERE common), 0) AS sure, count(*) AS n, count(*) FILTER (WHERE common) AS known FROM e WHERE x IS NOT NULL GROUP BY x),
few AS (SELECT (SELECT count(*) FROM g) <= {most} AND (SELECT count(*) FROM g WHERE known = 0) < (SELECT count(*) FROM e WHERE NOT common AND x IS NOT NULL) AS ok),
m AS MATERIALIZED (SELECT * FROM g WHERE n > 1 OR known > 0 OR (SELECT ok FROM few) ORDER BY share DESC LIMIT {most}),
o AS (SELECT x >= lag(x) OVER (ORDER BY of) AS up, x <= lag(x) OVER (ORDER BY of) AS down FROM e WHERE NOT common AND x IS NOT NULL)
SELECT (SELECT coalesce(sum(share), 0) FROM e WHERE x IS NULL),
       (SELECT array_agg(pg_column_size(x)) FROM (SELECT x FROM e WHERE x IS NOT NULL LIMIT 200) w),
       (SELECT count(*) FROM g WHERE known > 0), (SELECT count(*) FROM e WHERE NOT common AND x IS NOT NULL),
       (SELECT count(*) FROM g WHERE known = 0), (SELECT count(*) FROM g WHERE known = 0 AND n = 1),
       (SELECT array_agg(x ORDER BY share DESC)::text FROM m), (SELECT array_agg(sure ORDER BY share DESC) FROM m), (SELECT array_agg(n - known ORDER BY share DESC) FROM m),
       (SELECT array_agg(x ORDER BY x)::text FROM g WHERE n = 1 AND known = 0 AND NOT (SELECT ok FROM few)),
       (SELECT array_agg(x ORDER BY x)::text FROM e WHERE NOT common AND x IS NOT NULL),
       coalesce((SELECT bool_and(up) FROM o), false), coalesce((SELECT bool_and(down) FROM o), false),
       (SELECT correlation FROM s), (SELECT n_distinct FROM s), (SELECT coalesce(array_length(most_common_freqs, 1), 0) FROM s)"""


@dataclass(frozen=True)
class Derived:
    """What is known of the expression. Triples are (fewest distinct values, as is most likely, most). ``sizes``: bytes of some values as they are stored."""

    nulls: float
    sizes: tuple[int, ...]
    distinct: tuple[float, float, float]
    common: str | None = field(repr=False)
    shares: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]] = ((), (), ())  # of the common values
    histogram: str | None = field(repr=False, default=None)
    every: str | None = field(repr=False, default=None)  # all bounds, for what is none of the common values
    correlations: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def row(self, schema: str, index: str, attribute: str, width: float, rows: float, which: int) -> dict[str, Any]:
        """As a row of statistics (``twin/statistics.py``); ``which`` 3: for a value that is not among those seen, which may be as common as the others."""
        if which == UNSEEN:
            return unknown(schema, index, attribute, width, self.distinct[0], rows) | {"null_frac": str(self.nulls), "histogram_bounds": self.every}
        bounds = self.histogram if self.histogram and self.histogram.count(",") >= 1 else None
        shares = "{" + ",".join(f"{share:.7g}" for share in self.shares[which]) + "}" if self.common else None
        found = unknown(schema, index, attribute, width, self.distinct[which], rows)
        return found | {
            "null_frac": str(self.nulls),
            "most_common_vals": self.common,
            "most_common_freqs": shares,
            "histogram_bounds": bounds,
            "correlation": str(self.correlations[which]),
        }


def unknown(schema: str, index: str, attribute: str, width: float, distinct: float, rows: float) -> dict[str, Any]:
    """A row of statistics that says how many values there are, and nothing of them."""
    names = ("most_common_vals", "most_common_freqs", "histogram_bounds", "correlation", "most_common_elems", "most_common_elem_freqs", "elem_count_histogram")
    return {
        "schemaname": schema,
        "relname": index,
        "attname": attribute,
        "inherited": "false",
        "null_frac": "0",
        "avg_width": str(max(1, round(width))),
        "n_distinct": str(distinct if distinct <= 0.1 * rows else -distinct / max(rows, 1.0)),
        **dict.fromkeys(names),
    }


def derive(connection: psycopg.Connection[Any], table_oid: int, schema: str, table: str, expression: str, rows: float) -> Derived | None:
    """None where the expression is of several columns, the column has no values in its statistics, or the values cannot be computed (in time)."""
    import psycopg

    words = {word.lower() for word in _WORD.findall(expression)}
    found = [row for row in connection.execute(_COLUMNS, (table_oid,)).fetchall() if row[0].lower() in words]
    if len(found) != 1:
        return None
    quoted, column, kind = found[0]
    text = _VALUES.replace("{column}", quoted).replace("{kind}", kind).replace("{most}", str(COMMON_MAX)).replace("{expression}", expression.replace("%", "%%"))
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(f"SET LOCAL statement_timeout = {EVALUATE_MS}".encode())
            answer = connection.execute(text.encode(), {"schema": schema, "table": table, "column": column}).fetchone()
    except psycopg.Error:
        return None
    if answer is None or not answer[1]:
        return None
    nulls, sizes, common_values, bounds, others, singles, common, sure, hits, histogram, every, up, down, correlation, n_distinct, common_of_column = answer
    of_column = rows if n_distinct is None else -n_distinct * rows if n_distinct < 0 else n_distinct
    distinct = _distinct(common_values, bounds, others, singles, max(0.0, of_column - common_of_column), up or down)
    correlation = float(correlation or 0.0)
    # where the order is not kept, rows of one value may lie anywhere: the most distinct values go with the best order, for a bound below
    correlations = (correlation if up else -correlation,) * 3 if up or down else (0.0, 0.0, 1.0)
    unit = max(0.0, 1.0 - float(nulls) - sum(sure or ())) / max(1, bounds)  # nearly: the common values of the column are counted by their own shares
    several = _shares(sure or (), hits or (), unit, rows, up or down)
    return Derived(float(nulls), tuple(sizes), distinct, common, several, histogram, every, correlations)


def _shares(
    sure: Sequence[float], hits: Sequence[int], unit: float, rows: float, ordered: bool
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """The shares of common values: (at most, likely, at least). A number of bounds tells a share to within one bound where the order is kept, else to within chance;
    a sample of 30,000 rows tells the rest to within chance, and ANALYZE will take another one."""
    high, best, low = [], [], []
    for known, count in zip(sure, hits, strict=True):
        share = min(1.0, known + count * unit)
        off = (1.0 if ordered else DEVIATIONS * math.sqrt(count)) * unit if count else 0.0
        if rows > SAMPLE_ROWS:
            off += DEVIATIONS * math.sqrt(2 * share * (1 - share) / SAMPLE_ROWS)
        high.append(min(1.0, share + off))
        best.append(share)
        low.append(max(share / 10, share - off))
    return tuple(high), tuple(best), tuple(low)


def _distinct(common: int, bounds: int, others: int, singles: int, left: float, ordered: bool) -> tuple[float, float, float]:
    """(fewest, best, most) distinct values: those that are known to be common, and what the histogram's bounds tell of the ``left`` values of the column beside these."""
    if not bounds or not others:
        return (float(max(1, common)),) * 3
    left = max(left, float(bounds))
    most = others - singles + singles * left / bounds
    best = duj1(left, (bounds, others, singles))
    fewest = float(others)
    if singles == bounds and not ordered:
        fewest = max(fewest, min(left, bounds * bounds / _BIRTHDAY))
    return common + min(fewest, best), common + best, common + max(most, best)
