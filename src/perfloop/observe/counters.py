"""PostgreSQL's own counters at the two ends of a window: tables, commits, and pg_stat_statements where it is there and readable.

Other sessions report their counts to the statistics at most once a second, and an idle one up to ten seconds late (PGSTAT_MIN_INTERVAL,
PGSTAT_IDLE_INTERVAL in pgstat.c): the difference over a short window can miss its last second and hold one of the time before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from perfloop.errors import CannotMeasure
from perfloop.model.evidence import TableActivity
from perfloop.sql.catalog import TableInfo, tables
from perfloop.sql.connect import Connection, query

STATEMENTS_MAX = 20_000

_EXTENSION = """
select quote_ident(n.nspname) from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where e.extname = 'pg_stat_statements'
"""
_STATEMENTS = """
select queryid, calls, total_exec_time, rows from {schema}.pg_stat_statements(false)
where queryid is not null and dbid = (select oid from pg_catalog.pg_database where datname = current_database()) limit %s
"""
_COMMITS = "select xact_commit::bigint from pg_catalog.pg_stat_database where datname = current_database()"


@dataclass(frozen=True)
class Counters:
    """All counters at one moment; ``statements`` is None where pg_stat_statements is not there or not readable."""

    tables: Mapping[str, TableInfo] = field(default_factory=dict)
    commits: int = 0
    statements: Mapping[str, tuple[int, float, int]] | None = None

    @classmethod
    def read(cls, connection: Connection) -> Counters:
        """Read them now; CannotMeasure where the database does not answer."""
        rows = query(connection, _COMMITS)
        return cls({table.name: table for table in tables(connection)}, int(rows[0][0] or 0) if rows else 0, _statements(connection))

    def tables_since(self, first: Counters) -> tuple[TableActivity, ...]:
        """What every table saw since ``first``, the busiest first."""
        found = []
        for name, now in self.tables.items():
            before = first.tables.get(name)
            found.append(
                TableActivity(
                    name=name,
                    seq_scan=max(0, now.seq_scan - (before.seq_scan if before else 0)),
                    seq_tup_read=max(0, now.seq_tup_read - (before.seq_tup_read if before else 0)),
                    idx_scan=max(0, now.idx_scan - (before.idx_scan if before else 0)),
                    rows=max(now.rows, now.live_rows, 0),
                    size_bytes=now.size_bytes,
                    dead_rows=now.dead_rows,
                    last_analyze=now.last_analyze,
                    indexes=tuple(index.definition for index in now.indexes),
                )
            )
        return tuple(sorted(found, key=lambda table: (-table.seq_tup_read, -table.idx_scan, -table.size_bytes)))

    def statements_since(self, first: Counters) -> dict[str, tuple[int, float, int]]:
        """(calls, seconds, rows) by query id since ``first``; empty without pg_stat_statements."""
        before = first.statements or {}
        found = {}
        for key, now in (self.statements or {}).items():
            old = before.get(key, (0, 0.0, 0))
            if now[0] >= old[0]:  # fewer: it was reset
                found[key] = (now[0] - old[0], max(0.0, now[1] - old[1]), max(0, now[2] - old[2]))
        return found


def _statements(connection: Connection) -> Mapping[str, tuple[int, float, int]] | None:
    schema = query(connection, _EXTENSION)
    if not schema:
        return None
    try:
        rows = query(connection, _STATEMENTS.format(schema=schema[0][0]), (STATEMENTS_MAX,))
    except CannotMeasure:  # installed but not preloaded, or not granted
        return None
    found: dict[str, tuple[int, float, int]] = {}
    for number, calls, total_ms, count in rows:  # one query of several roles, or inside functions too, has several rows; summed here, not by the server
        key = str(number)
        old = found.get(key, (0, 0.0, 0))
        found[key] = (old[0] + calls, old[1] + total_ms / 1000, old[2] + count)
    return found
