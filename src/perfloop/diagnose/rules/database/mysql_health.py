"""MySQL or MariaDB is used or set up in a way that costs all its clients.

What it finds
    Statements that read whole tables for few rows, joins without an index, waits for row locks and their holder, transactions left open, a buffer pool that
    is too small, temporary tables and sorts on disk, a disk flush for each small commit, connections made anew, tables opened again and again, and
    indexes that another one makes needless.

Why it costs you
    Reads from disk and waits for locks are what a query's time consists of; needless indexes and flushes are what a write's time consists of.

How it decides
    From the differences of SHOW GLOBAL STATUS over the window, digests of statements (or what was seen running, where performance_schema is off), and
    samples of locks and transactions. Scans: at least ``scan_rows_min`` rows a second by reading the next row, and that many for each row sent
    (``scan_ratio_min``). Locks: sessions waited for ``lock_share_min`` of the window. Buffer pool: ``miss_min`` of the reads missed, ``reads_min`` a second.
    Temporary tables on disk, sort passes, opened tables and new connections count from ``events_min`` a second on.

What would disprove it
    The counters over a longer window show none of it, or the change that is named leaves the statements' times as they were.

How to fix
    As each finding says. An index is made IGNORED (MariaDB) or INVISIBLE (MySQL 8) before it is dropped: that is undone at once.

Sources
    MariaDB Knowledge Base, "Server Status Variables"; MySQL manual, "Server Status Variables", "The sys Schema"; percona-toolkit's pt-duplicate-key-checker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from perfloop.diagnose.engines import trouble
from perfloop.diagnose.finish import conclude, percent
from perfloop.model.engines import MysqlObservation
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, Proposal, RuleResult

ID = "mysql-health"
NEEDS = ("mysql",)
THRESHOLDS = {"scan_rows_min": 20_000.0, "scan_ratio_min": 50.0, "lock_share_min": 0.05, "miss_min": 0.02, "reads_min": 200.0, "events_min": 5.0}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge each server that was looked at."""
    limit = {**THRESHOLDS, **thresholds}
    found = [finding for seen in evidence.mysql for check in CHECKS for finding in check(seen, limit)]
    found.sort(key=lambda finding: -finding.win_back_per_s)
    return conclude(ID, evidence, found, "scans, locks, buffer pool, temporary tables, sorts, flushes, connections and indexes over the window")


def _peer(seen: MysqlObservation) -> str:
    return f"{'mariadb' if seen.mariadb else 'mysql'} {seen.host}:{seen.port}"


def _rate(seen: MysqlObservation, name: str) -> float:
    return seen.status.get(name, 0.0) / max(seen.window_s, 1e-9)


def _setting(name: str, value: str, title: str) -> Proposal:
    return Proposal(kind="mysql-setting", title=title, params={"name": name, "value": value})


def _worst(seen: MysqlObservation) -> str:
    heavy = [entry for entry in seen.statements if entry.no_index] or list(seen.statements)
    return heavy[0].text if heavy else ""


def _locks(seen: MysqlObservation, limit: Mapping[str, float]) -> Iterator[Finding]:
    waited = seen.status.get("innodb_row_lock_time", 0.0) / 1000
    samples = sum(lock.samples for lock in seen.locks)
    share = max(waited / max(seen.window_s, 1e-9), samples / max(1, seen.samples))
    if share >= limit["lock_share_min"]:
        first = seen.locks[0] if seen.locks else None
        facts = [f"{waited:,.1f} s of waiting for row locks in {seen.window_s:.0f} s, {seen.status.get('innodb_row_lock_waits', 0):,.0f} waits"]
        facts += [f"{lock.waiting or 'a statement'} waits for {lock.blocking} on {lock.table}, up to {lock.seconds:.0f} s" for lock in seen.locks[:3]]
        yield trouble("mysql-row-locks", f"statements wait for row locks{f' on {first.table}' if first else ''}: {share:,.2f} of them at any moment", tuple(facts), fix="shorten the transaction that holds them: no calls to others inside it, one order of rows, commit early; innodb_lock_wait_timeout lower", disproof="without the holder the statements take as long", weight=1 + share, peer=_peer(seen), actor="backend developer", query=first.waiting if first else "", proposals=(Proposal(kind="code", title="shorten the transaction that holds the locks"),))  # fmt: skip
    elif seen.oldest_transaction_s >= 30:
        yield trouble("mysql-long-transaction", f"a transaction has been open for {seen.oldest_transaction_s:,.0f} s", (seen.oldest_transaction, "its old row versions cannot be purged, and its locks stay"), fix="commit or roll back at the end of each request; idle_transaction_timeout (MariaDB)", disproof="it is a backup or a report that is meant to take so long", weight=0.2, peer=_peer(seen), actor="backend developer", confidence=Confidence.LIKELY)  # fmt: skip


def _scans(seen: MysqlObservation, limit: Mapping[str, float]) -> Iterator[Finding]:
    read, sent = _rate(seen, "handler_read_rnd_next"), max(_rate(seen, "rows_sent"), 0.1)
    if read < limit["scan_rows_min"]:
        return
    joins = _rate(seen, "select_full_join") + _rate(seen, "select_range_check")
    text = _worst(seen)
    facts = [
        f"{read:,.0f} rows a second are read one after another, {sent:,.1f} are sent",
        f"{_rate(seen, 'select_scan'):,.1f} statements a second read a table whole",
    ]
    facts += [
        f"{entry.text}: {entry.rows_examined:,} rows read for {entry.rows_sent:,} sent"
        if entry.rows_examined
        else f"{entry.text}: seen running {entry.count} times"
        for entry in seen.statements[:2]
    ]
    if joins >= 0.2:
        yield trouble("mysql-join-without-index", f"{joins:,.1f} joins a second read the inner table whole for each row of the outer one", tuple(facts), fix="an index on the joined column of the inner table", disproof="with the index the join reads as many rows", weight=2 + read / 1e6, peer=_peer(seen), query=text)  # fmt: skip
    elif read / sent >= limit["scan_ratio_min"]:
        yield trouble("mysql-full-scan", f"{read / sent:,.0f} rows are read for each row sent", tuple(facts), fix="an index on the columns of the WHERE of the statement named (ANALYZE FORMAT=JSON shows r_rows)", disproof="with the index as many rows are read", weight=1 + read / 1e6, peer=_peer(seen), query=text)  # fmt: skip


def _memory(seen: MysqlObservation, limit: Mapping[str, float]) -> Iterator[Finding]:
    reads, asked = _rate(seen, "innodb_buffer_pool_reads"), _rate(seen, "innodb_buffer_pool_read_requests")
    size = int(seen.variables.get("innodb_buffer_pool_size", "0") or 0)
    if reads >= limit["reads_min"] and asked and reads / asked >= limit["miss_min"]:
        yield trouble("mysql-buffer-pool-small", f"{percent(reads / asked)} of the page reads miss the buffer pool of {size / 2**20:,.0f} MiB", (f"{reads:,.0f} of {asked:,.0f} page reads a second come from outside",), fix="a larger innodb_buffer_pool_size (half to three quarters of the memory of a server of its own)", disproof="with a larger one as many reads miss", weight=0.8 + reads * 1e-4, peer=_peer(seen), setting="innodb_buffer_pool_size", proposals=(_setting("innodb_buffer_pool_size", str(size * 4), "a buffer pool four times as large"),))  # fmt: skip
    disk = _rate(seen, "created_tmp_disk_tables")
    if disk >= limit["events_min"]:
        size = int(float(seen.variables.get("tmp_table_size", "0") or 0))
        yield trouble("mysql-temp-on-disk", f"{disk:,.0f} temporary tables a second are made on disk", (f"{_rate(seen, 'created_tmp_tables'):,.0f} temporary tables a second in all, tmp_table_size {size / 2**20:,.1f} MiB", _worst(seen)), fix="group and sort fewer and narrower columns (no TEXT or BLOB), an index in the wanted order, a larger tmp_table_size and max_heap_table_size", disproof="in memory they take as long", weight=0.7 + disk / 1000, peer=_peer(seen), setting="tmp_table_size", query=_worst(seen), proposals=(_setting("tmp_table_size", str(max(size * 4, 64 * 2**20)), "larger temporary tables in memory"),))  # fmt: skip
    passes = _rate(seen, "sort_merge_passes")
    if passes >= limit["events_min"]:
        size = int(float(seen.variables.get("sort_buffer_size", "0") or 0))
        yield trouble("mysql-sort-on-disk", f"{passes:,.0f} merge passes a second: sorts do not fit in {size / 2**10:,.0f} KiB", (f"{_rate(seen, 'sort_rows'):,.0f} rows sorted a second", _worst(seen)), fix="an index in the wanted order, LIMIT, or a larger sort_buffer_size for the session that sorts", disproof="with a larger buffer the sort takes as long", weight=0.6 + passes / 1000, peer=_peer(seen), setting="sort_buffer_size", query=_worst(seen), proposals=(_setting("sort_buffer_size", str(max(size * 8, 2 * 2**20)), "a larger sort buffer"),))  # fmt: skip


def _writes(seen: MysqlObservation, limit: Mapping[str, float]) -> Iterator[Finding]:
    flushes = max(_rate(seen, "innodb_os_log_fsyncs"), _rate(seen, "innodb_data_fsyncs"))  # the first is not told by newer MariaDBs
    rows = _rate(seen, "handler_write") + _rate(seen, "handler_update") + _rate(seen, "handler_delete")
    writes = sum(_rate(seen, f"com_{verb}") for verb in ("insert", "update", "delete", "replace"))
    always = seen.variables.get("innodb_flush_log_at_trx_commit") == "1"
    if always and writes >= 10 * limit["events_min"] and flushes >= 0.5 * writes and rows <= 3 * writes:
        yield trouble("mysql-flush-per-row", f"{writes:,.0f} commits a second of about one row each, each flushed to disk", (f"{flushes:,.0f} flushes of the log a second, {rows:,.0f} rows written", "innodb_flush_log_at_trx_commit = 1"), fix="write many rows in one transaction (or one INSERT of many rows); innodb_flush_log_at_trx_commit = 2 where the last second may be lost", disproof="in transactions of a hundred rows the writes take as long", weight=0.5 + flushes / 5000, peer=_peer(seen), actor="backend developer", proposals=(Proposal(kind="code", title="write many rows in one transaction"), _setting("innodb_flush_log_at_trx_commit", "2", "flush the log once a second")))  # fmt: skip
    waits = _rate(seen, "innodb_log_waits")
    if waits >= 1:
        yield trouble("mysql-log-buffer-small", f"{waits:,.0f} writes a second wait for room in the log buffer", (f"innodb_log_buffer_size {seen.variables.get('innodb_log_buffer_size', '?')}",), fix="a larger innodb_log_buffer_size", disproof="with a larger one as many wait", weight=0.5, peer=_peer(seen), setting="innodb_log_buffer_size")  # fmt: skip


def _connections(seen: MysqlObservation, limit: Mapping[str, float]) -> Iterator[Finding]:
    made, asked = _rate(seen, "connections"), _rate(seen, "questions")
    refused = _rate(seen, "connection_errors_max_connections")
    if refused > 0:
        yield trouble("mysql-max-connections", f"{refused:,.1f} connections a second are refused: max_connections is {seen.variables.get('max_connections', '?')}", (f"{seen.now.get('threads_connected', 0):,.0f} are connected, {seen.now.get('threads_running', 0):,.0f} of them run something",), fix="smaller pools: the sum over all instances must fit", disproof="no one is refused with smaller pools", weight=3.0, peer=_peer(seen), setting="max_connections")  # fmt: skip
    elif made >= 2 * limit["events_min"] and made >= 0.1 * asked:
        yield trouble("mysql-connection-churn", f"{made:,.0f} new connections a second for {asked:,.0f} statements", (f"{_rate(seen, 'threads_created'):,.0f} threads created a second",), fix="one pool of connections for the life of the process", disproof="with a pool the latency is the same", weight=0.65 + made / 1000, peer=_peer(seen), actor="backend developer", proposals=(Proposal(kind="code", title="keep connections in a pool"),))  # fmt: skip
    opened = _rate(seen, "opened_tables")
    if opened >= limit["events_min"] and seen.now.get("open_tables", 0) >= 0.9 * float(seen.variables.get("table_open_cache", "1e9")):
        size = int(float(seen.variables.get("table_open_cache", "0")))
        yield trouble("mysql-table-cache-small", f"{opened:,.0f} tables a second are opened anew: table_open_cache is {size:,}", (f"{seen.now.get('open_tables', 0):,.0f} tables are open",), fix="a larger table_open_cache (and open_files_limit)", disproof="with a larger one as many are opened", weight=0.55 + opened / 1000, peer=_peer(seen), setting="table_open_cache", proposals=(_setting("table_open_cache", str(max(size * 8, 2000)), "more tables kept open"),))  # fmt: skip


def _indexes(seen: MysqlObservation, limit: Mapping[str, float]) -> Iterator[Finding]:
    if not seen.redundant:
        return
    one = seen.redundant[0]
    trial = f"ALTER TABLE {one.table} ALTER INDEX {one.name} {'IGNORED' if seen.mariadb else 'INVISIBLE'};"
    facts = tuple(f"{index.table}.{index.name} ({', '.join(index.columns)}): {index.covered_by} begins with the same columns" for index in seen.redundant[:5])
    yield trouble("mysql-redundant-index", f"{len(seen.redundant)} index{'es' if len(seen.redundant) > 1 else ''} that another one makes needless, first {one.table}.{one.name}", facts, fix=f"{trial} watch for some days, then drop it", disproof="a statement gets slower while it is not used", weight=0.004, peer=_peer(seen), proposals=(Proposal(kind="code", title=trial),))  # fmt: skip


CHECKS = (_locks, _scans, _memory, _writes, _connections, _indexes)
