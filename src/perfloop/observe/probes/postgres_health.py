"""The state of the PostgreSQL server beside its queries: vacuum, transaction ids, checkpoints, WAL, replication, connections, caches. Two short reads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from perfloop.errors import CannotMeasure
from perfloop.model.evidence import Unavailable
from perfloop.model.health import PostgresHealth, ReplicaHealth, SlotHealth, TableHealth
from perfloop.model.target import Target
from perfloop.observe.base import Access, Nothing, Observation
from perfloop.sql.connect import Connection, address_of, connect_readonly, query

ID = "postgres-health"
NEEDS = "a read-only role (target.postgres); pg_monitor is not needed"
COST = "ten catalogue queries at both ends of the window, a few milliseconds"

TABLES_MAX = 200
_SETTINGS = ("autovacuum", "checkpoint_timeout", "max_wal_size", "shared_buffers", "work_mem", "maintenance_work_mem", "random_page_cost", "effective_cache_size", "fsync", "synchronous_commit",
             "idle_in_transaction_session_timeout", "track_io_timing", "jit", "default_statistics_target", "max_connections")  # fmt: skip
_DATABASE = "select to_jsonb(d) from pg_catalog.pg_stat_database d where datname = current_database()"
_BACKENDS = "select sum(numbackends)::int, current_setting('max_connections')::int, current_setting('superuser_reserved_connections')::int from pg_catalog.pg_stat_database"
_CHECKPOINTS_17 = "select num_timed, num_requested from pg_catalog.pg_stat_checkpointer"
_CHECKPOINTS = "select checkpoints_timed, checkpoints_req from pg_catalog.pg_stat_bgwriter"
_WAL = "select wal_bytes::bigint, wal_buffers_full from pg_catalog.pg_stat_wal"
_AGE = "select datname::text, age(datfrozenxid), current_setting('autovacuum_freeze_max_age')::int from pg_catalog.pg_database where datallowconn order by 2 desc limit 1"
_TABLES = """
select n.nspname || '.' || c.relname, coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0), coalesce(s.n_mod_since_analyze, 0),
  coalesce(o.vacuum_threshold, current_setting('autovacuum_vacuum_threshold')::float8) + coalesce(o.vacuum_scale, current_setting('autovacuum_vacuum_scale_factor')::float8) * greatest(c.reltuples, 0),
  coalesce(o.analyze_threshold, current_setting('autovacuum_analyze_threshold')::float8) + coalesce(o.analyze_scale, current_setting('autovacuum_analyze_scale_factor')::float8) * greatest(c.reltuples, 0),
  coalesce(greatest(s.last_vacuum, s.last_autovacuum)::text, ''), coalesce(greatest(s.last_analyze, s.last_autoanalyze)::text, ''), coalesce(o.enabled, true), c.relpages::bigint * 8192,
  coalesce(io.heap_blks_read, 0), coalesce(io.heap_blks_hit, 0), coalesce(s.n_tup_upd, 0), coalesce(s.n_tup_hot_upd, 0)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace left join pg_catalog.pg_stat_all_tables s on s.relid = c.oid left join pg_catalog.pg_statio_all_tables io on io.relid = c.oid,
lateral (select max(case when k = 'autovacuum_vacuum_threshold' then v end)::float8 as vacuum_threshold, max(case when k = 'autovacuum_vacuum_scale_factor' then v end)::float8 as vacuum_scale,
  max(case when k = 'autovacuum_analyze_threshold' then v end)::float8 as analyze_threshold, max(case when k = 'autovacuum_analyze_scale_factor' then v end)::float8 as analyze_scale,
  bool_and(case when k = 'autovacuum_enabled' then v::bool end) as enabled
  from (select split_part(t, '=', 1) as k, split_part(t, '=', 2) as v from unnest(c.reloptions) t) x) o
where c.relkind in ('r', 'm') and c.relpersistence <> 't' and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\\_toast%%' order by c.relpages desc limit %s
"""
_HOLDER = """
select told, held from (
  select age(backend_xmin) as held, 'the transaction of pid ' || pid as told from pg_catalog.pg_stat_activity where backend_xmin is not null and pid <> pg_backend_pid()
  union all select age(transaction), 'the prepared transaction ' || gid from pg_catalog.pg_prepared_xacts
  union all select greatest(age(xmin), age(catalog_xmin)), 'the replication slot ' || slot_name from pg_catalog.pg_replication_slots where xmin is not null or catalog_xmin is not null
) h order by held desc nulls last limit 1
"""
_SLOTS = "select slot_name::text, active, coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end, restart_lsn), 0)::bigint from pg_catalog.pg_replication_slots"
_REPLICAS = """
select coalesce(application_name, ''), coalesce(state, ''), extract(epoch from write_lag)::float8, extract(epoch from flush_lag)::float8, extract(epoch from replay_lag)::float8,
  case when pg_is_in_recovery() then null else pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint end from pg_catalog.pg_stat_replication
"""
_RECOVERY = "select pg_is_in_recovery(), case when pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() then 0 else extract(epoch from now() - pg_last_xact_replay_timestamp()) end::float8"


class HealthSession:
    """Counters at both ends of the window."""

    interval_s = None

    def __init__(self, connection: Connection, access: Access) -> None:
        self._connection, self._address = connection, address_of(access.postgres_dsn)
        self.begin()

    def begin(self) -> None:
        """Read the counters."""
        self._began_s = time.monotonic()
        self._first = self._counters()
        self._tables = {row[0]: row for row in query(self._connection, _TABLES, (TABLES_MAX,))}

    def sample(self) -> None:
        """Nothing between."""

    def finish(self) -> Sequence[Observation]:
        """Read them again, and the state that has no counter."""
        connection, first = self._connection, self._first
        window_s, last = time.monotonic() - self._began_s, self._counters()
        backends, most, reserved = query(connection, _BACKENDS)[0]
        database, age, freeze = query(connection, _AGE)[0]
        holder = self._tried(_HOLDER)
        recovery = self._tried(_RECOVERY)
        delta = {name: int(last[name] - first[name]) if name in first else 0 for name in last}
        settings = query(connection, "select name, current_setting(name) from pg_catalog.pg_settings where name = any(%s)", (list(_SETTINGS),))
        return (
            PostgresHealth(
                window_s=window_s,
                host=self._address.host,
                port=self._address.port,
                database=self._address.database,
                server_version=connection.info.server_version,
                backends=backends or 0,
                max_connections=most,
                reserved_connections=reserved,
                **{name: max(0, delta.get(name, 0)) for name in _COUNTED},
                connections_made=delta.get("sessions"),
                idle_in_transaction_s=delta["idle_in_transaction_time"] / 1000 if "idle_in_transaction_time" in delta else None,
                xid_age=age,
                xid_age_database=database,
                freeze_max_age=freeze,
                xmin_holder=str(holder[0][0]) if holder and holder[0][1] is not None else "",
                xmin_holder_age=int(holder[0][1] or 0) if holder else 0,
                tables=tuple(self._table(row) for row in query(connection, _TABLES, (TABLES_MAX,))),
                slots=tuple(SlotHealth(name=row[0], active=row[1], kept_bytes=row[2]) for row in self._tried(_SLOTS)),
                replicas=tuple(
                    ReplicaHealth(name=row[0], state=row[1], write_s=row[2], flush_s=row[3], replay_s=row[4], behind_bytes=row[5])
                    for row in self._tried(_REPLICAS)
                ),
                in_recovery=bool(recovery and recovery[0][0]),
                replay_delay_s=recovery[0][1] if recovery and recovery[0][0] else None,
                settings=dict(settings),
            ),
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _counters(self) -> dict[str, float]:
        connection = self._connection
        row: dict[str, Any] = query(connection, _DATABASE)[0][0]
        names = {
            "xact_commit": "commits",
            "xact_rollback": "rollbacks",
            "deadlocks": "deadlocks",
            "temp_bytes": "temp_bytes",
            "blks_read": "pages_read",
            "blks_hit": "pages_hit",
        }
        found = {new: float(row[old]) for old, new in names.items()}
        found |= {name: float(row[name]) for name in ("sessions", "idle_in_transaction_time") if row.get(name) is not None}
        version = connection.info.server_version
        checkpoints = query(connection, _CHECKPOINTS_17 if version >= 170000 else _CHECKPOINTS)[0]
        found |= {"checkpoints_timed": float(checkpoints[0]), "checkpoints_asked": float(checkpoints[1])}
        if version >= 140000:
            wal = query(connection, _WAL)[0]
            found |= {"wal_bytes": float(wal[0]), "wal_buffers_full": float(wal[1])}
        return found

    def _table(self, row: tuple[Any, ...]) -> TableHealth:
        name, live, dead, modified, vacuum_at, analyze_at, vacuumed, analyzed, auto, size, read, hit, updated, hot = row
        before = self._tables.get(name)
        changed = updated - before[12] if before else 0
        return TableHealth(
            name=name,
            live_rows=live,
            dead_rows=dead,
            vacuum_threshold=vacuum_at,
            modified_since_analyze=modified,
            analyze_threshold=analyze_at,
            last_vacuum=vacuumed,
            last_analyze=analyzed,
            autovacuum=auto,
            size_bytes=size,
            pages_read=max(0, read - before[10]) if before else 0,
            pages_hit=max(0, hit - before[11]) if before else 0,
            hot_share=(hot - before[13]) / changed if before and changed > 0 else None,
        )

    def _tried(self, text: str) -> list[tuple[Any, ...]]:
        try:
            return query(self._connection, text)
        except CannotMeasure:  # not granted, or not on this kind of server
            if self._connection.closed or self._connection.broken:
                raise
            return []


_COUNTED = (
    "commits",
    "rollbacks",
    "deadlocks",
    "temp_bytes",
    "pages_read",
    "pages_hit",
    "checkpoints_timed",
    "checkpoints_asked",
    "wal_bytes",
    "wal_buffers_full",
)


def start(target: Target, access: Access) -> HealthSession | Nothing | Unavailable:
    """Connect with the read-only role."""
    if not access.postgres_dsn:
        return Nothing()  # the probe of its queries says so already
    connection = connect_readonly(access.postgres_dsn)
    try:
        return HealthSession(connection, access)
    except BaseException:
        connection.close()
        raise
