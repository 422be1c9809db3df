"""The state of a PostgreSQL server beside its queries: vacuum, transaction ids, checkpoints, replication, connections, caches, settings."""

from __future__ import annotations

from perfloop.model.base import Word


class TableHealth(Word):
    """One table: what autovacuum would do, and where its pages come from (deltas over the window)."""

    name: str
    live_rows: int
    dead_rows: int
    vacuum_threshold: float
    modified_since_analyze: int
    analyze_threshold: float
    last_vacuum: str = ""
    last_analyze: str = ""
    autovacuum: bool = True
    size_bytes: int = 0
    pages_read: int = 0
    pages_hit: int = 0
    hot_share: float | None = None  # of the updates in the window that changed no index


class SlotHealth(Word):
    """A replication slot and the write-ahead log that it keeps."""

    name: str
    active: bool
    kept_bytes: int


class ReplicaHealth(Word):
    """A standby as its primary tells it: bytes and seconds behind; None where this role may not see them."""

    name: str
    state: str
    write_s: float | None = None
    flush_s: float | None = None
    replay_s: float | None = None
    behind_bytes: int | None = None


class PostgresHealth(Word):
    """One server. Counters are deltas over the window; ``checkpoints_asked`` were forced by the amount of WAL."""

    window_s: float
    host: str
    port: int
    database: str
    server_version: int
    backends: int = 0
    max_connections: int = 0
    reserved_connections: int = 0
    commits: int = 0
    rollbacks: int = 0
    deadlocks: int = 0
    temp_bytes: int = 0
    pages_read: int = 0
    pages_hit: int = 0
    checkpoints_timed: int = 0
    checkpoints_asked: int = 0
    wal_bytes: int = 0
    wal_buffers_full: int = 0
    xid_age: int = 0  # of the database with the oldest frozen transaction id
    xid_age_database: str = ""
    freeze_max_age: int = 0
    xmin_holder: str = ""
    xmin_holder_age: int = 0  # transactions
    tables: tuple[TableHealth, ...] = ()
    slots: tuple[SlotHealth, ...] = ()
    replicas: tuple[ReplicaHealth, ...] = ()
    in_recovery: bool = False
    replay_delay_s: float | None = None
    settings: dict[str, str] = {}
    connections_made: int | None = None  # sessions begun (14 and later)
    idle_in_transaction_s: float | None = None  # time that sessions spent so (14 and later)
