"""MySQL and MariaDB: counters of the server, statements by digest (or as seen running), row locks, long transactions, needless indexes. Reads only."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from perfloop.errors import CannotMeasure
from perfloop.model.engines import MysqlIndex, MysqlLock, MysqlObservation, SlowEntry
from perfloop.model.evidence import Unavailable
from perfloop.model.target import PeerKind, Target
from perfloop.observe.base import Access, Nothing, Observation, talks_to
from perfloop.sql.fingerprint import normalize
from perfloop.sql.mysql import connect_mysql, mysql_text

ID = "mysql"
NEEDS = "the DSN of a MySQL or MariaDB account with PROCESS in target.mysql"
COST = "SHOW GLOBAL STATUS twice, and four short reads a second"

SAMPLE_S = 0.25
_VARIABLES = (
    "innodb_buffer_pool_size", "innodb_flush_log_at_trx_commit", "sync_binlog", "tmp_table_size", "max_heap_table_size", "sort_buffer_size", "join_buffer_size", "table_open_cache", "max_connections",
    "thread_cache_size", "innodb_log_file_size", "innodb_log_buffer_size", "performance_schema", "slow_query_log", "long_query_time", "query_cache_type", "log_bin",
)  # fmt: skip
_LOCKS_MARIADB = """
select r.trx_query, b.trx_query, l.lock_table, timestampdiff(second, r.trx_wait_started, now()), timestampdiff(second, b.trx_started, now())
from information_schema.innodb_lock_waits w join information_schema.innodb_trx r on r.trx_id = w.requesting_trx_id
join information_schema.innodb_trx b on b.trx_id = w.blocking_trx_id join information_schema.innodb_locks l on l.lock_id = w.requested_lock_id limit 50"""
_LOCKS_MYSQL = """
select r.trx_query, b.trx_query, l.object_name, timestampdiff(second, r.trx_wait_started, now()), timestampdiff(second, b.trx_started, now())
from performance_schema.data_lock_waits w join information_schema.innodb_trx r on r.trx_id = w.requesting_engine_transaction_id
join information_schema.innodb_trx b on b.trx_id = w.blocking_engine_transaction_id join performance_schema.data_locks l on l.engine_lock_id = w.requesting_engine_lock_id limit 50"""
_RUNNING = "select info, time_ms from information_schema.processlist where command = 'Query' and id <> connection_id() and info is not null limit 200"
_RUNNING_MYSQL = "select info, time * 1000 from information_schema.processlist where command = 'Query' and id <> connection_id() and info is not null limit 200"
_OLDEST = "select timestampdiff(second, trx_started, now()), trx_query, trx_rows_modified from information_schema.innodb_trx order by trx_started limit 1"
_INDEXES = """
select table_schema, table_name, index_name, group_concat(column_name order by seq_in_index), min(non_unique) from information_schema.statistics
where table_schema not in ('mysql', 'sys', 'performance_schema', 'information_schema') and index_type = 'BTREE' group by 1, 2, 3 limit 5000"""
_DIGESTS = """
select digest_text, count_star, sum_timer_wait / 1e9, max_timer_wait / 1e9, sum_rows_examined, sum_rows_sent, sum_no_index_used, sum_created_tmp_disk_tables
from performance_schema.events_statements_summary_by_digest where digest_text is not null and schema_name is not null order by sum_timer_wait desc limit 500"""
#: counters that a session has of its own, so that ours can be taken out
_BY_SESSION = ("handler_", "select_", "sort_", "created_tmp_", "rows_", "com_", "questions", "opened_tables")
#: pairs of numbers that a digest counts
_Digest = tuple[int, float, float, int, int, int, int]


class MysqlSession:
    """Counters at both ends; running statements and locks in between."""

    interval_s = SAMPLE_S

    def __init__(self, connection: Any, dsn: str) -> None:
        self._connection = connection
        parts = urlsplit(dsn)
        self._host, self._port = parts.hostname or "localhost", parts.port or 3306
        self._version = str(self._rows("select version()")[0][0])
        self._maria = "mariadb" in self._version.lower()
        self._variables = {name: str(value) for name, value in self._rows("show global variables") if name in _VARIABLES}
        self.begin()

    def begin(self) -> None:
        """Read the counters."""
        self._began_s = time.monotonic()
        self._first, self._digests = self._status(), self._read_digests()
        self._running: defaultdict[str, list[float]] = defaultdict(list)
        self._locked: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
        self._oldest: tuple[float, str] = (0.0, "")
        self._samples = 0

    def sample(self) -> None:
        """What runs, who waits for whom, and the oldest transaction."""
        self._samples += 1
        for text, ms in self._rows(_RUNNING if self._maria else _RUNNING_MYSQL):
            self._running[normalize(str(text), "mysql")].append(float(ms or 0))
        for waiting, blocking, table, seconds, _ in self._tried(_LOCKS_MARIADB if self._maria else _LOCKS_MYSQL):
            told = normalize(str(blocking), "mysql") if blocking else "(idle in its transaction)"
            self._locked[normalize(str(waiting or ""), "mysql"), told, str(table).replace("`", "")].append(float(seconds or 0))
        for age, text, changed in self._tried(_OLDEST):
            if float(age or 0) > self._oldest[0]:
                self._oldest = (float(age), normalize(str(text), "mysql") if text else f"(idle, {changed} rows changed)")

    def finish(self) -> Sequence[Observation]:
        """The deltas, then the indexes."""
        window_s, last = time.monotonic() - self._began_s, self._status()
        statements, source = self._statements()
        return (
            MysqlObservation(
                window_s=window_s,
                host=self._host,
                port=self._port,
                version=self._version,
                mariadb=self._maria,
                status={name: value - self._first.get(name, 0.0) for name, value in last.items() if value >= self._first.get(name, 0.0)},
                now=last,
                variables=self._variables,
                statements=statements,
                statements_source=source,
                locks=tuple(
                    MysqlLock(waiting=waiting, blocking=blocking, table=table, seconds=max(times), samples=len(times))
                    for (waiting, blocking, table), times in sorted(self._locked.items(), key=lambda item: -len(item[1]))[:20]
                ),
                redundant=_redundant(self._rows(_INDEXES)),
                oldest_transaction_s=self._oldest[0],
                oldest_transaction=self._oldest[1],
                samples=self._samples,
            ),
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _statements(self) -> tuple[tuple[SlowEntry, ...], str]:
        last = self._read_digests()
        found = []
        for text, now in last.items():
            before = self._digests.get(text, (0, 0.0, 0.0, 0, 0, 0, 0))
            if now[0] > before[0]:
                count, total, examined, sent = now[0] - before[0], now[1] - before[1], now[3] - before[3], now[4] - before[4]
                found.append(SlowEntry(text=normalize(text, "mysql"), count=count, worst_ms=now[2], total_ms=total, rows_examined=examined, rows_sent=sent, no_index=now[5] > before[5], temp_on_disk=now[6] > before[6]))  # fmt: skip
        if found:
            return tuple(sorted(found, key=lambda entry: -entry.total_ms)[:100]), "performance_schema digests"
        seen = [SlowEntry(text=text, count=len(times), worst_ms=max(times), total_ms=len(times) * SAMPLE_S * 1000) for text, times in self._running.items()]
        return tuple(sorted(seen, key=lambda entry: -entry.count)[:100]), f"seen running, {self._samples} samples (performance_schema is off)"

    def _read_digests(self) -> dict[str, _Digest]:
        if self._variables.get("performance_schema", "").upper() not in ("ON", "1"):
            return {}
        return {str(row[0]): (int(row[1]), float(row[2]), float(row[3]), int(row[4]), int(row[5]), int(row[6]), int(row[7])) for row in self._tried(_DIGESTS)}

    def _status(self) -> dict[str, float]:
        """The server's counters without what this session added to them."""
        figures, own = _numbers(self._rows("show global status")), _numbers(self._rows("show session status"))
        return {name: value - own.get(name, 0.0) if name.startswith(_BY_SESSION) else value for name, value in figures.items()}

    def _rows(self, text: str) -> list[Any]:
        with self._connection.cursor() as cursor:
            cursor.execute(text)
            return list(cursor.fetchall())

    def _tried(self, text: str) -> list[Any]:
        """Nothing where the account may not see it, or this version has no such table."""
        import pymysql

        try:
            return self._rows(text)
        except (pymysql.err.ProgrammingError, pymysql.err.OperationalError, pymysql.err.InternalError):
            if not self._connection.open:
                raise
            return []


def start(target: Target, access: Access) -> MysqlSession | Nothing | Unavailable:
    """Connect; errors say which credential is missing."""
    import pymysql

    if not access.mysql_dsn and not talks_to(target, PeerKind.MYSQL):
        return Nothing()
    if not access.mysql_dsn:
        return Unavailable(probe=ID, reason="no credential for MySQL is configured", fix='[target] mysql = "env:NAME" with the DSN of an account with PROCESS')
    connection = connect_mysql(access.mysql_dsn)
    try:
        return MysqlSession(connection, access.mysql_dsn)
    except (pymysql.MySQLError, OSError) as error:
        connection.close()
        raise CannotMeasure("MySQL does not tell what it does", why=mysql_text(error), fix="GRANT PROCESS ON *.* TO the account of target.mysql") from None


def _numbers(rows: list[Any]) -> dict[str, float]:
    figures = {}
    for name, value in rows:
        try:
            figures[str(name).lower()] = float(value)
        except (TypeError, ValueError):
            continue
    return figures


def _redundant(rows: list[Any]) -> tuple[MysqlIndex, ...]:
    """Indexes whose columns another one of the table begins with; never a unique one or the primary key."""
    by: defaultdict[str, list[tuple[str, tuple[str, ...], bool]]] = defaultdict(list)
    for schema, table, name, columns, non_unique in rows:
        by[f"{schema}.{table}"].append((str(name), tuple(str(columns).split(",")), not int(non_unique)))
    found = []
    for table, indexes in by.items():
        for name, columns, unique in indexes:
            if unique or name == "PRIMARY":
                continue
            wider = next(
                (other for other, more, _ in sorted(indexes) if other != name and more[: len(columns)] == columns and (more != columns or other < name)), ""
            )
            if wider:
                found.append(MysqlIndex(table=table, name=name, columns=columns, covered_by=wider))
    return tuple(found[:100])
