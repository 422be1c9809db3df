"""What pg_stat_statements knows of a query, and which other statement it follows; bounded, and nothing where the extension is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perfloop.errors import CannotMeasure
from perfloop.sql.connect import Connection, query
from perfloop.sql.fingerprint import fingerprint, normalize

STATEMENTS_MAX = 500
PARENT_CALLS_MIN = 5
PARENT_ROWS_MIN = 5.0
RATIO_TOLERANCE = 0.03
_EXTENSION = "select quote_ident(n.nspname), e.extversion from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements'"
_TOP = """
select queryid::text, calls, {total}, rows, left(query, 20000) from {schema}.pg_stat_statements
where dbid = (select oid from pg_catalog.pg_database where datname = current_database()) and query not like 'EXPLAIN%%' and query <> '<insufficient privilege>'
order by {total} desc limit %s
"""


@dataclass(frozen=True)
class StatementRow:
    """One statement's counters since they were reset; ``text`` without literals, ``raw`` as the extension keeps it (``$1`` for values)."""

    query_id: str
    fingerprint: str
    text: str
    calls: int
    total_ms: float
    rows: int
    raw: str = ""

    @property
    def mean_ms(self) -> float:
        """Milliseconds a call."""
        return self.total_ms / self.calls if self.calls else 0.0

    def stored(self) -> dict[str, Any]:
        """For the catalogue snapshot: no literal."""
        return {
            "query_id": self.query_id,
            "fingerprint": self.fingerprint,
            "text": self.text,
            "calls": self.calls,
            "total_ms": self.total_ms,
            "rows": self.rows,
        }


def statements(connection: Connection, count: int = STATEMENTS_MAX) -> tuple[StatementRow, ...]:
    """The statements with the most time in all, at most 500; empty without pg_stat_statements."""
    found = query(connection, _EXTENSION)
    if not found:
        return ()
    try:
        rows = query(connection, _TOP.format(schema=found[0][0], total="total_exec_time"), (count,))
    except CannotMeasure:  # not preloaded, or not granted
        return ()
    return tuple(StatementRow(row[0], fingerprint(row[4]), normalize(row[4]), int(row[1]), float(row[2]), int(row[3]), row[4]) for row in rows)


def since(now: Sequence[StatementRow], then: Sequence[Mapping[str, Any]]) -> tuple[StatementRow, ...]:
    """The deltas since an earlier snapshot; statements whose counters went down (a reset) count from zero."""
    old = {str(row["query_id"]): row for row in then}
    found = []
    for row in now:
        before = old.get(row.query_id)
        if before is None or int(before["calls"]) > row.calls:
            found.append(row)
        elif row.calls > int(before["calls"]):
            found.append(
                StatementRow(
                    row.query_id,
                    row.fingerprint,
                    row.text,
                    row.calls - int(before["calls"]),
                    row.total_ms - float(before["total_ms"]),
                    row.rows - int(before["rows"]),
                    row.raw,
                )
            )
    return tuple(found)


def parent_of(own: StatementRow, everybody: Sequence[StatementRow]) -> tuple[StatementRow, float] | None:
    """The statement whose rows come with one call of ``own`` each, and calls of ``own`` for each of its calls: the mark of N+1. None where no such one is."""
    if own.calls < PARENT_CALLS_MIN * PARENT_ROWS_MIN or own.rows > 3 * own.calls:
        return None
    best: tuple[StatementRow, float] | None = None
    for other in everybody:
        if other.fingerprint == own.fingerprint or other.calls < PARENT_CALLS_MIN or other.rows < PARENT_ROWS_MIN * other.calls:
            continue
        off = abs(own.calls / other.rows - 1)
        if off <= RATIO_TOLERANCE and (best is None or off < abs(own.calls / best[0].rows - 1)):
            best = (other, own.calls / other.calls)
    return best
