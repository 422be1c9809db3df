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
TOGETHER_MAX = 32  # sets counted by one statement

#: (qualified table, its key columns, the predicate of a partial index as the server writes it)
Key = tuple[str, frozenset[str], str]


def sample(connection: psycopg.Connection[Any], snapshot: Snapshot, keys: Iterable[Key]) -> dict[Key, float]:
    """Distinct keys of each of these column sets; those that could not be sampled in time are left out. Each table is read once for all its plain sets."""
    tables = {row["name"]: row for row in snapshot.tables}
    together: dict[tuple[str, str], list[Key]] = {}
    for key in keys:
        row = tables.get(key[0])
        if row is not None and float(row["reltuples"]) >= 1 and row["pages"] >= 1:
            together.setdefault((key[0], key[2]), []).append(key)
    found: dict[Key, float] = {}
    for (table, _), wanted in together.items():
        for start in range(0, len(wanted), TOGETHER_MAX):
            found |= _sampled(connection, tables[table], wanted[start : start + TOGETHER_MAX])
    return found


def _sampled(connection: psycopg.Connection[Any], row: dict[str, Any], keys: Sequence[Key]) -> dict[Key, float]:
    """One table's sets, all with the same predicate, from one sample."""
    import psycopg
    from psycopg import sql

    rows, predicate = float(row["reltuples"]), keys[0][2]
    share = min(1.0, SAMPLE_PAGES_MAX / row["pages"])
    picked = min(1.0, SAMPLE_ROWS / (rows * share))
    columns = sorted({column for key in keys for column in key[1]})
    query = sql.SQL("WITH sampled AS MATERIALIZED (SELECT {} FROM {} TABLESAMPLE SYSTEM ({}) WHERE random() < {}{}) ").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.Identifier(row["bare_schema"], row["bare_name"]),
        sql.Literal(100 * share),
        sql.Literal(picked),
        sql.SQL(f" AND ({predicate})" if predicate else ""),  # the server's own text of it
    )
    one = "SELECT {}, coalesce(sum(c), 0)::bigint, count(*), count(*) FILTER (WHERE c = 1) FROM (SELECT count(*) AS c FROM sampled GROUP BY {}) g"
    query += sql.SQL(" UNION ALL ").join(
        sql.SQL(one).format(sql.Literal(number), sql.SQL(", ").join(map(sql.Identifier, sorted(key[1])))) for number, key in enumerate(keys)
    )
    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL statement_timeout = {TIMEOUT_MS}".encode())
            answers = connection.execute(query).fetchall()
    except psycopg.Error:  # no privilege, no equality, or not in time: the bounds stay
        return _sampled(connection, row, keys[: len(keys) // 2]) | _sampled(connection, row, keys[len(keys) // 2 :]) if len(keys) > 1 else {}
    found: dict[Key, float] = {}
    for number, *answer in answers:
        if answer[0]:
            whole = rows if not predicate else answer[0] / (share * picked)
            found[keys[number]] = duj1(max(whole, float(answer[0])), answer)
    return found


def duj1(rows: float, sampled: Sequence[int]) -> float:
    """Distinct values of a table of so many rows, from (rows in the sample, distinct ones, those seen once)."""
    count, distinct, once = sampled
    return min(rows, max(float(distinct), count * distinct / max(1.0, count - once + once * count / rows)))
