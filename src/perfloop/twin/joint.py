"""How many distinct keys several columns have together, from a small sample of the table: the one number that decides the size of a correlated key's index.

Reading rows is a load on the target, so this is done only where the user allows it. Estimator: Haas and Stokes' Duj1, as ANALYZE uses for one column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from perfloop.twin.snapshot import Snapshot

if TYPE_CHECKING:
    import psycopg

SAMPLE_ROWS = 30_000
#: pages read at most; rows are then picked from them by chance, because rows of one page are alike
SAMPLE_PAGES_MAX = 30_000
TIMEOUT_MS = 2_000

#: (qualified table, its key columns, the predicate of a partial index as the server writes it)
Key = tuple[str, frozenset[str], str]


def sample(connection: psycopg.Connection[Any], snapshot: Snapshot, keys: Iterable[Key]) -> dict[Key, float]:
    """Distinct keys of each of these column sets; those that could not be sampled in time are left out."""
    import psycopg
    from psycopg import sql

    tables = {row["name"]: row for row in snapshot.tables}
    found: dict[Key, float] = {}
    for table, columns, predicate in keys:
        row = tables.get(table)
        rows = float(row["reltuples"]) if row else 0.0
        if row is None or rows < 1 or row["pages"] < 1:
            continue
        share = min(1.0, SAMPLE_PAGES_MAX / row["pages"])
        picked = min(1.0, SAMPLE_ROWS / (rows * share))
        query = sql.SQL(
            "SELECT coalesce(sum(c), 0)::bigint, count(*), count(*) FILTER (WHERE c = 1) FROM"
            " (SELECT count(*) AS c FROM {} TABLESAMPLE SYSTEM ({}) WHERE random() < {}{} GROUP BY {}) g"
        ).format(
            sql.Identifier(row["bare_schema"], row["bare_name"]),
            sql.Literal(100 * share),
            sql.Literal(picked),
            sql.SQL(f" AND ({predicate})" if predicate else ""),  # the server's own text of it
            sql.SQL(", ").join(sql.Identifier(name) for name in sorted(columns)),
        )
        try:
            with connection.transaction():
                connection.execute(f"SET LOCAL statement_timeout = {TIMEOUT_MS}".encode())
                answer = connection.execute(query).fetchone()
        except psycopg.Error:
            continue  # no privilege, no equality, or not in time: the bounds stay
        if answer and answer[0]:
            whole = rows if not predicate else answer[0] / (share * picked)
            found[table, columns, predicate] = duj1(max(whole, float(answer[0])), answer)
    return found


def duj1(rows: float, sampled: Sequence[int]) -> float:
    """Distinct values of a table of so many rows, from (rows in the sample, distinct ones, those seen once)."""
    count, distinct, once = sampled
    return min(rows, max(float(distinct), count * distinct / max(1.0, count - once + once * count / rows)))
