"""What the catalogue tells of the tables that a query touches: size, vacuum, statistics, indexes, partitions, and what holds dead rows back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from perfloop.errors import CannotMeasure
from perfloop.model.query import TableNow
from perfloop.sql.connect import Connection, query

TABLES_MAX = 60
PARTITIONS_MAX = 500
_TABLES = """
select n.nspname || '.' || c.relname, c.reltuples::float8, c.relpages, greatest(0, pg_catalog.pg_relation_size(c.oid) / current_setting('block_size')::int)::int,
  coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0), coalesce(s.n_mod_since_analyze, 0),
  coalesce(to_char(greatest(s.last_analyze, s.last_autoanalyze) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), ''), coalesce(to_char(greatest(s.last_vacuum, s.last_autovacuum) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), ''), c.relallvisible,
  array(select a.attname::text from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        and has_column_privilege(a.attrelid, a.attnum, 'SELECT') and coalesce(to_jsonb(a) ->> 'attstattarget', '-1') <> '0'
        and not exists (select from pg_catalog.pg_stats st where st.schemaname = n.nspname and st.tablename = c.relname and st.attname = a.attname)),
  array(select pg_catalog.pg_get_indexdef(i.indexrelid) from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisvalid),
  array(select ic.relname::text from pg_catalog.pg_index i join pg_catalog.pg_class ic on ic.oid = i.indexrelid where i.indrelid = c.oid and not i.indisvalid), c.relkind::text, c.oid::bigint
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace left join pg_catalog.pg_stat_all_tables s on s.relid = c.oid
where n.nspname || '.' || c.relname = any(%s::text[]) limit %s
"""
_PARENTS = """
select distinct p.oid::bigint, n.nspname || '.' || p.relname from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid join pg_catalog.pg_namespace cn on cn.oid = c.relnamespace
join pg_catalog.pg_class p on p.oid = i.inhparent and p.relkind = 'p' join pg_catalog.pg_namespace n on n.oid = p.relnamespace where cn.nspname || '.' || c.relname = any(%s::text[])
"""
_PARTITIONS = """
select n.nspname || '.' || c.relname from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where i.inhparent = %s::bigint::oid order by 1 limit %s
"""
_KEY = """
select a.attname::text from pg_catalog.pg_partitioned_table p, unnest(p.partattrs::int2[]) k join pg_catalog.pg_attribute a on a.attnum = k
where p.partrelid = %s::bigint::oid and a.attrelid = p.partrelid
"""
#: the oldest thing that keeps dead rows: a session (where visible), a prepared transaction, a replication slot
_HOLDER = """
select told from (
  select age(backend_xmin) as held, 'the transaction of pid ' || pid || ', open for ' || coalesce(extract(epoch from now() - xact_start)::int, 0) || ' s' as told
    from pg_catalog.pg_stat_activity where backend_xmin is not null and pid <> pg_backend_pid() and xact_start < now() - interval '60 s'
  union all select age(transaction), 'the prepared transaction ' || gid from pg_catalog.pg_prepared_xacts
  union all select greatest(age(xmin), age(catalog_xmin)), 'the replication slot ' || slot_name from pg_catalog.pg_replication_slots where xmin is not null or catalog_xmin is not null
) h where held > 0 order by held desc limit 1
"""


def tables_now(connection: Connection, names: Iterable[str], then: Mapping[str, Mapping[str, Any]]) -> tuple[TableNow, ...]:
    """Facts about tables named ``schema.table`` (no quotes). ``then``: rows of an earlier snapshot's tables by the same names."""
    wanted = sorted(set(names))
    holder = _holder(connection)
    found = []
    for row in query(connection, _TABLES, (wanted, TABLES_MAX)):
        name, tuples, relpages, pages, live, dead, modified, analyzed, vacuumed, visible, blank, indexes, invalid, kind, _ = row
        old = then.get(name)
        if kind == "p":
            continue
        found.append(
            TableNow(
                name=name,
                rows=max(tuples, 0.0),
                pages=pages,
                rows_then=max(0.0, float(old["reltuples"])) if old else None,
                pages_then=int(old["pages"]) if old else None,
                live_rows=live,
                dead_rows=dead,
                modified_since_analyze=modified,
                last_analyze=analyzed,
                last_vacuum=vacuumed,
                visible_share=visible / relpages if relpages else 0.0,
                columns_without_statistics=tuple(blank) if live or tuples > 0 or pages > 1 else (),
                indexes=tuple(indexes),
                invalid_indexes=tuple(invalid),
                xmin_holder=holder,
            )
        )
    return (*found, *_partitioned(connection, wanted))


def _partitioned(connection: Connection, names: list[str]) -> list[TableNow]:
    found = []
    for oid, name in query(connection, _PARENTS, (names,)):
        parts = tuple(row[0] for row in query(connection, _PARTITIONS, (oid, PARTITIONS_MAX)))
        key = tuple(row[0] for row in query(connection, _KEY, (oid,)))
        found.append(TableNow(name=name, partitions=len(parts), partition_names=parts, partition_key=key))
    return found


def _holder(connection: Connection) -> str:
    try:
        rows = query(connection, _HOLDER)
    except CannotMeasure:
        return ""
    return str(rows[0][0]) if rows else ""
