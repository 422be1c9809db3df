"""What is in a PostgreSQL database: tables, their size, counters, indexes and columns. Bounded to 1,000 tables, the largest first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from perfloop.sql.connect import Connection, query

TABLES_MAX = 1_000


@dataclass(frozen=True)
class IndexInfo:
    """One index. ``columns`` are its key columns in order, empty strings for expressions; ``scans`` since statistics were reset."""

    name: str
    definition: str
    columns: tuple[str, ...]
    unique: bool
    primary: bool
    valid: bool
    partial: bool
    size_bytes: int
    scans: int


@dataclass(frozen=True)
class TableInfo:
    """One table. ``rows`` is the planner's estimate (−1 where it was never analysed); counters are since statistics were reset; ``columns`` maps name to type."""

    name: str  # schema.table
    kind: str  # r table, p partitioned, m materialised view
    rows: int
    size_bytes: int
    live_rows: int
    dead_rows: int
    seq_scan: int
    seq_tup_read: int
    idx_scan: int
    last_analyze: str  # ISO 8601, by hand or by autovacuum; empty where never
    modified_since_analyze: int
    columns: dict[str, str]
    indexes: tuple[IndexInfo, ...]


_TABLES = """
select c.oid::bigint, n.nspname || '.' || c.relname, c.relkind::text, c.reltuples::bigint,
       case c.relkind when 'p' then 0 else pg_catalog.pg_table_size(c.oid) end,
       coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0), coalesce(s.seq_scan, 0), coalesce(s.seq_tup_read, 0), coalesce(s.idx_scan, 0),
       coalesce(to_char(greatest(s.last_analyze, s.last_autoanalyze) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), ''),
       coalesce(s.n_mod_since_analyze, 0)
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_stat_all_tables s on s.relid = c.oid
where c.relkind in ('r', 'p', 'm') and c.relpersistence <> 't'
  and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\\_toast%%'
  and (%s::text[] is null or c.relname = any(%s::text[]) or n.nspname || '.' || c.relname = any(%s::text[]))
order by c.relpages desc, c.oid limit %s
"""
_COLUMNS = """
select a.attrelid::bigint, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod)
from pg_catalog.pg_attribute a where a.attrelid = any(%s::bigint[]::oid[]) and a.attnum > 0 and not a.attisdropped order by a.attrelid, a.attnum
"""
_INDEXES = """
select i.indrelid::bigint, c.relname::text, pg_catalog.pg_get_indexdef(i.indexrelid),
       array(select coalesce(a.attname::text, '') from unnest(i.indkey::int2[]) with ordinality k(n, at)
             left join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.n and k.n > 0 where k.at <= i.indnkeyatts order by k.at),
       i.indisunique, i.indisprimary, i.indisvalid and i.indisready, i.indpred is not null,
       pg_catalog.pg_relation_size(i.indexrelid), coalesce(s.idx_scan, 0)
from pg_catalog.pg_index i
join pg_catalog.pg_class c on c.oid = i.indexrelid
left join pg_catalog.pg_stat_all_indexes s on s.indexrelid = i.indexrelid
where i.indrelid = any(%s::bigint[]::oid[]) order by i.indrelid, c.relname
"""


def tables(connection: Connection, names: Iterable[str] | None = None) -> tuple[TableInfo, ...]:
    """The user's tables (all, or those named ``table`` or ``schema.table``), largest first; CannotMeasure where the catalogue cannot be read."""
    wanted = None if names is None else sorted(set(names))
    found = query(connection, _TABLES, (wanted, wanted, wanted, TABLES_MAX))
    oids = [row[0] for row in found]
    columns: dict[int, dict[str, str]] = {}
    for oid, name, kind in query(connection, _COLUMNS, (oids,), rows_max=TABLES_MAX * 1_600):
        columns.setdefault(oid, {})[name] = kind
    indexes: dict[int, list[IndexInfo]] = {}
    for oid, name, definition, keys, unique, primary, valid, partial, size, scans in query(connection, _INDEXES, (oids,)):
        indexes.setdefault(oid, []).append(IndexInfo(name, definition, tuple(keys), unique, primary, valid, partial, size, scans))
    fields = ((*row[1:], columns.get(row[0], {}), tuple(indexes.get(row[0], ()))) for row in found)
    return tuple(TableInfo(*values) for values in fields)


def schema_of(found: Iterable[TableInfo]) -> dict[str, tuple[str, ...]]:
    """Table → columns, in the shape that ``predicates`` wants."""
    return {table.name: tuple(table.columns) for table in found}


def row_counts(found: Iterable[TableInfo]) -> dict[str, int]:
    """Table → rows, in the shape that ``check_load_sql`` wants."""
    return {table.name: max(table.rows, table.live_rows, 0) for table in found}
