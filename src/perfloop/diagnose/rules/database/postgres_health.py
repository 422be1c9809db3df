"""The PostgreSQL server itself is in a state that slows its queries, or will stop them.

What it finds
    Queues for a lock and the session at their root, dead rows that vacuum does not come to and what holds them back, transaction ids that run out, checkpoints
    forced by WAL, standbys and slots that lag, connections near their limit or made anew all the time, sessions idle in a transaction, deadlocks, sorts on
    disk, tables that do not fit in the cache, and statements called once for each row of another.

Why it costs you
    Dead rows are read by every scan; a forced checkpoint writes all pages at once; a slot that nobody reads fills the disk; a queue for a lock stops a table.

How it decides
    From two reads of the statistics views. Dead rows: beyond ``dead_times`` the table's own autovacuum threshold and a fifth of it. Transaction ids: beyond
    ``age_share`` of 2 billion. Forced checkpoints: at least one each ``checkpoint_s`` and more than the timed ones. Standbys: ``lag_s`` behind; slots:
    ``slot_bytes`` kept. Connections: ``connections_share`` of those allowed, or ``churn_min`` new ones a second. Cache: ``read_min`` pages a second from
    outside, of a table of which fewer than nine in ten are hits. Locks: ``lock_min`` sessions waiting at any moment.

What would disprove it
    The views over a longer window show none of it, or the change that is named leaves the time of queries as it was.

How to fix
    As each finding says; per-table autovacuum settings, an end to the session at the root, a larger max_wal_size, a pooler. Nothing here takes an exclusive lock.

Sources
    PostgreSQL manual: "Routine Vacuuming", "Preventing Transaction ID Wraparound Failures", "WAL Configuration", "Replication", "The Cumulative Statistics System".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from perfloop.diagnose.engines import trouble
from perfloop.diagnose.finish import conclude, percent
from perfloop.model.evidence import Evidence, PostgresObservation
from perfloop.model.finding import Confidence, Finding, Proposal, RuleResult
from perfloop.model.health import PostgresHealth

ID = "postgres-health"
NEEDS = ("postgres_health",)
THRESHOLDS = {
    "dead_times": 2.0,
    "age_share": 0.5,
    "checkpoint_s": 60.0,
    "lag_s": 10.0,
    "slot_bytes": 1e9,
    "connections_share": 0.85,
    "churn_min": 20.0,
    "read_min": 2_000.0,
    "lock_min": 0.5,
}
WRAPAROUND = 2_000_000_000
RATIO_TOLERANCE = 0.03


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge each server that was looked at; locks and calls come from the samples of its sessions."""
    limit = {**THRESHOLDS, **thresholds}
    found = [finding for seen in evidence.postgres_health for check in CHECKS for finding in check(seen, limit)]
    found += [finding for seen in evidence.postgres for finding in (*_lock_queue(seen, limit), *_calls(seen))]
    found.sort(key=lambda finding: -finding.win_back_per_s)
    return conclude(ID, evidence, found, "vacuum, transaction ids, checkpoints, replication, connections, caches, locks and call counts")


def _peer(seen: PostgresHealth | PostgresObservation) -> str:
    return f"postgresql {seen.host}:{seen.port}/{seen.database}"


def _vacuum(seen: PostgresHealth, limit: Mapping[str, float]) -> Iterator[Finding]:
    off = seen.settings.get("autovacuum") == "off"
    late = [
        table
        for table in seen.tables
        if table.dead_rows > limit["dead_times"] * table.vacuum_threshold and table.dead_rows > 0.2 * max(table.live_rows, 1) and table.dead_rows >= 1_000
    ]
    if late:
        table = max(late, key=lambda one: one.dead_rows)
        schema, _, bare = table.name.rpartition(".")
        held = seen.xmin_holder and seen.xmin_holder_age > 10_000
        why = (
            "autovacuum is off"
            if off or not table.autovacuum
            else f"{seen.xmin_holder} holds them back ({seen.xmin_holder_age:,} transactions old)"
            if held
            else "autovacuum does not keep up"
        )
        options = {"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_cost_delay": "1"} | (
            {"autovacuum_enabled": "true"} if not table.autovacuum else {}
        )
        proposals = (
            Proposal(kind="postgres-table-options", title=f"vacuum {bare} earlier", params={"schema": schema, "table": bare, "options": options}),
            Proposal(kind="postgres-vacuum", title=f"vacuum {bare}", params={"schema": schema, "table": bare}),
        )
        facts = [
            f"{one.name}: {one.dead_rows:,} dead of {one.live_rows:,} live rows, autovacuum comes at {one.vacuum_threshold:,.0f}; last vacuum {one.last_vacuum or 'never'}"
            for one in late[:4]
        ]
        yield trouble("postgres-dead-rows", f"{table.name} has {table.dead_rows:,} dead rows: {why}", tuple(facts), fix=(f"end it first; then VACUUM {table.name};" if held else f"VACUUM {table.name}; and ALTER TABLE {table.name} SET (autovacuum_vacuum_scale_factor = 0.02);"), disproof="after VACUUM the queries on it take as long", weight=0.3 + min(1.0, table.dead_rows / max(1, table.live_rows)) / 2, peer=_peer(seen), proposals=proposals)  # fmt: skip
    if seen.xid_age >= limit["age_share"] * WRAPAROUND:
        yield trouble("postgres-wraparound", f"database {seen.xid_age_database} is {seen.xid_age / 1e6:,.0f} million transactions old; at {WRAPAROUND / 1e6:,.0f} million the server takes no writes", (f"autovacuum_freeze_max_age is {seen.freeze_max_age / 1e6:,.0f} million", *([f"held back by {seen.xmin_holder}"] if seen.xmin_holder else [])), fix="end what holds it back, then VACUUM (FREEZE) the oldest tables", disproof="the age falls by itself", weight=5.0, peer=_peer(seen))  # fmt: skip


def _writes(seen: PostgresHealth, limit: Mapping[str, float]) -> Iterator[Finding]:
    if seen.checkpoints_asked and seen.window_s / seen.checkpoints_asked <= limit["checkpoint_s"] and seen.checkpoints_asked > seen.checkpoints_timed:
        rate = seen.wal_bytes / max(seen.window_s, 1e-9)
        yield trouble("postgres-checkpoints-forced", f"{seen.checkpoints_asked} checkpoints in {seen.window_s:.0f} s were forced by the amount of WAL", (f"{rate / 2**20:,.1f} MiB of WAL a second, max_wal_size {seen.settings.get('max_wal_size', '?')}", "after each one every page is written whole into the WAL once more"), fix="a larger max_wal_size (as much as is written in checkpoint_timeout, twice)", disproof="with a larger one the writes take as long", weight=0.4, peer=_peer(seen), setting="max_wal_size", proposals=(Proposal(kind="postgres-setting", title="a larger max_wal_size", params={"name": "max_wal_size", "value": f"{max(1, int(rate * 600 / 2**30) + 1)}GB"}),))  # fmt: skip
    if seen.deadlocks:
        yield trouble("postgres-deadlocks", f"{seen.deadlocks} deadlocks in {seen.window_s:.0f} s", ("each costs deadlock_timeout and a transaction",), fix="touch rows in one order (ORDER BY id FOR UPDATE), shorter transactions", disproof="they come from a test", weight=0.5 + seen.deadlocks / max(seen.window_s, 1), peer=_peer(seen), actor="backend developer")  # fmt: skip
    if seen.temp_bytes / max(seen.window_s, 1e-9) >= 5 * 2**20:
        yield trouble("postgres-temp-files", f"{seen.temp_bytes / seen.window_s / 2**20:,.0f} MiB of temporary files a second: sorts and hashes do not fit in work_mem {seen.settings.get('work_mem', '?')}", ("perfloop query on the largest statement names the step",), fix="work_mem for the role or statement that sorts; an index in the wanted order", disproof="in memory it takes as long", weight=0.25, peer=_peer(seen), setting="work_mem")  # fmt: skip


def _replication(seen: PostgresHealth, limit: Mapping[str, float]) -> Iterator[Finding]:
    for replica in seen.replicas:
        if replica.replay_s is not None and replica.replay_s >= limit["lag_s"]:
            where = (
                "the network"
                if (replica.write_s or 0) > 0.5 * replica.replay_s
                else "its disk"
                if (replica.flush_s or 0) > 0.5 * replica.replay_s
                else "replaying, behind its own queries or one core"
            )
            yield trouble("postgres-replication-lag", f"standby {replica.name or '?'} is {replica.replay_s:,.0f} s behind: {where}", (f"write {replica.write_s or 0:,.1f} s, flush {replica.flush_s or 0:,.1f} s, replay {replica.replay_s:,.1f} s, {(replica.behind_bytes or 0) / 2**20:,.0f} MiB",), fix="what the place says: bandwidth, the standby's disk, or fewer long queries there (hot_standby_feedback, max_standby_streaming_delay)", disproof="it catches up by itself when the load ends", weight=0.3, peer=_peer(seen))  # fmt: skip
    if seen.in_recovery and (seen.replay_delay_s or 0) >= limit["lag_s"]:
        yield trouble("postgres-replication-lag", f"this standby replays what is {seen.replay_delay_s:,.0f} s old", ("pg_last_xact_replay_timestamp()",), fix="look at its primary's pg_stat_replication: write, flush or replay", disproof="nothing was written on the primary meanwhile", weight=0.3, peer=_peer(seen))  # fmt: skip
    for slot in seen.slots:
        if slot.kept_bytes >= limit["slot_bytes"]:
            yield trouble("postgres-slot-keeps-wal", f"the {'active' if slot.active else 'inactive'} slot {slot.name} keeps {slot.kept_bytes / 2**30:,.1f} GiB of WAL", ("when the disk is full the server stops",), fix=f"let its consumer go on, or SELECT pg_drop_replication_slot('{slot.name}'); and set max_slot_wal_keep_size", disproof="it falls by itself", weight=1.0 if not slot.active else 0.4, peer=_peer(seen))  # fmt: skip


def _connections(seen: PostgresHealth, limit: Mapping[str, float]) -> Iterator[Finding]:
    allowed = seen.max_connections - seen.reserved_connections
    if allowed and seen.backends >= limit["connections_share"] * allowed:
        yield trouble("postgres-connections-full", f"{seen.backends} of {allowed} connections are used", ("the next pool that grows is refused",), fix="smaller pools (the sum over all instances must fit), or PgBouncer in transaction mode", disproof="they are never all used", weight=0.8, peer=_peer(seen), setting="max_connections")  # fmt: skip
    made = (seen.connections_made or 0) / max(seen.window_s, 1e-9)
    if made >= limit["churn_min"] and (seen.connections_made or 0) >= 20:
        yield trouble("postgres-connection-churn", f"{made:,.0f} new connections a second", (f"{seen.commits / max(seen.window_s, 1e-9):,.0f} transactions a second; each connection forks a process and reads the catalogue",), fix="a pool in the service, or PgBouncer", disproof="with a pool the latency is the same", weight=0.6 + made / 500, peer=_peer(seen), actor="backend developer", proposals=(Proposal(kind="code", title="keep connections in a pool"),))  # fmt: skip
    idle = (seen.idle_in_transaction_s or 0.0) / max(seen.window_s, 1e-9)
    if idle >= 0.5:
        yield trouble("postgres-idle-in-transaction", f"{idle:,.1f} sessions are idle in a transaction at any moment", (f"idle_in_transaction_session_timeout = {seen.settings.get('idle_in_transaction_session_timeout', '?')}", "they hold locks and keep dead rows"), fix="commit before calling others; idle_in_transaction_session_timeout = 30s", disproof="they hold no lock that others wait for", weight=0.2, peer=_peer(seen), actor="backend developer", proposals=(Proposal(kind="postgres-setting", title="end idle transactions", params={"name": "idle_in_transaction_session_timeout", "value": "30s"}),))  # fmt: skip


def _caches(seen: PostgresHealth, limit: Mapping[str, float]) -> Iterator[Finding]:
    read = [table for table in seen.tables if table.pages_read / max(seen.window_s, 1e-9) >= limit["read_min"] and table.pages_hit < 9 * table.pages_read]
    if read:
        table = max(read, key=lambda one: one.pages_read)
        yield trouble("postgres-cache-misses", f"{table.name} is read from outside shared_buffers: {table.pages_read / seen.window_s:,.0f} pages a second", (f"{percent(table.pages_hit / max(1, table.pages_hit + table.pages_read))} of its pages were hits; it has {table.size_bytes / 2**20:,.0f} MiB, shared_buffers {seen.settings.get('shared_buffers', '?')}",), fix="an index or a partition so that fewer pages are read; a larger shared_buffers where the working set fits", disproof="with the pages in memory the queries take as long", weight=0.2, peer=_peer(seen), confidence=Confidence.POSSIBLE)  # fmt: skip


def _lock_queue(seen: PostgresObservation, limit: Mapping[str, float]) -> Iterator[Finding]:
    waiting = sum(lock.samples for lock in seen.locks) / max(1, seen.samples)
    if waiting >= limit["lock_min"]:
        first = max(seen.locks, key=lambda lock: lock.samples)
        facts = tuple(
            f"{lock.samples} session samples: {lock.waiting[:120]} waits for {lock.blocking[:120]} on {lock.relation or '?'}" for lock in seen.locks[:4]
        )
        yield trouble("postgres-lock-queue", f"{waiting:,.1f} sessions wait for a lock at any moment; at the root: {first.blocking[:80]}", facts, fix="shorten the transaction at the root; DDL with SET lock_timeout = '2s' and retries", disproof="without the root the waiting statements take as long", weight=waiting, peer=_peer(seen), actor="backend developer", query=first.waiting)  # fmt: skip


def _calls(seen: PostgresObservation) -> Iterator[Finding]:
    """N+1: a statement called once for each row of another, by the counters of pg_stat_statements."""
    counted = [query for query in seen.queries if query.calls and query.rows is not None]
    for query in counted:
        if (query.calls or 0) < 100 or (query.rows or 0) > 3 * (query.calls or 0):
            continue
        for other in counted:
            per_call = (other.rows or 0) / max(1, other.calls or 0)
            if other is query or (other.calls or 0) < 5 or per_call < 5 or abs((query.calls or 0) / max(1, other.rows or 0) - 1) > RATIO_TOLERANCE:
                continue
            yield trouble("postgres-n-plus-one", f"a statement is called {per_call:,.1f} times for each call of another: {query.text[:80]}", (f"{query.calls:,} calls, and {other.text[:120]} returned {other.rows:,} rows in {other.calls:,} calls",), fix="fetch the rows of the list together: JOIN, or WHERE id = ANY($1)", disproof="the calls do not follow the rows over time", weight=(query.total_s or 0.0) / max(seen.window_s, 1e-9), peer=_peer(seen), actor="backend developer", query=query.text, proposals=(Proposal(kind="code", title="fetch the rows of the list together"),))  # fmt: skip
            break


CHECKS = (_vacuum, _writes, _replication, _connections, _caches)
