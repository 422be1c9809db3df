"""What the service's sessions do in PostgreSQL: which query is active, what it waits for, who blocks it; plans by EXPLAIN, never executed.

Reads through ``perfloop.activity()`` where the database owner installed it, else from ``pg_stat_activity``, where a role without pg_* grants sees only its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from perfloop.errors import CannotMeasure, UsageError
from perfloop.host.sockdiag import sockets_of
from perfloop.model.evidence import PostgresObservation, QueryPlan, Unavailable
from perfloop.model.target import Target
from perfloop.observe.activity import Activity, Tally, without_literals
from perfloop.observe.base import Access, Observation
from perfloop.observe.counters import Counters
from perfloop.sql.connect import APPLICATION_NAME, Connection, address_of, connect_readonly, query
from perfloop.sql.explain import explain

ID = "postgres"
NEEDS = "a read-only role (target.postgres) and, to see what others' sessions run, the function perfloop.activity()"
COST = "20 short statements a second in the database, 1 to 2 % of one of its cores"

STATEMENT_TIMEOUT_S = 5.0
PLANS_MAX = 10
SAMPLES_FAILED_MAX = 20
RELATION_EVERY_S = 0.2

_COLUMNS = "a.pid, a.application_name, a.client_port, a.state, a.wait_event_type, a.wait_event, a.query_id, a.query, a.backend_type"
_BY_FUNCTION = f"select {_COLUMNS}, a.blocked_by from perfloop.activity() a where a.pid <> pg_backend_pid()"  # noqa: S608 -- our own names only
_BY_VIEW = (
    f"select {_COLUMNS}, case when a.wait_event_type = 'Lock' then pg_blocking_pids(a.pid) else '{{}}'::integer[] end "  # noqa: S608
    "from pg_catalog.pg_stat_activity a where a.datname = current_database() and a.pid <> pg_backend_pid()"
)
_MAY_CALL = """
select has_schema_privilege(n.oid, 'USAGE') and has_function_privilege(p.oid, 'EXECUTE')
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'perfloop' and p.proname = 'activity' and p.pronargs = 0
"""
_WANTS = """
select c.oid::regclass::text from pg_catalog.pg_locks l
join pg_catalog.pg_class c on c.oid = l.relation and c.relkind in ('r', 'p', 'm')
join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
where l.pid = %s and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
order by l.granted, l.locktype <> 'tuple', l.mode not in ('RowExclusiveLock', 'RowShareLock'),
  not exists (select 1 from pg_catalog.pg_locks b where b.pid = any(%s::int[]) and b.relation = l.relation and b.mode <> 'AccessShareLock')
limit 1
"""
INSTALL = (
    "let the database's owner run perfloop's sql/activity.sql there (perfloop doctor prints it); it shows this one role what sessions of this database run"
)


class PostgresSession:
    """A connection that samples. Sessions of the service are told by the ports of its sockets; where none matches (a proxy between), all are counted."""

    def __init__(self, connection: Connection, target: Target, access: Access) -> None:
        self.interval_s = 1.0 / access.postgres_rate_hz
        self._connection, self._target, self._access = connection, target, access
        self._address = address_of(access.postgres_dsn)
        may = query(connection, _MAY_CALL)
        self._statement = _BY_FUNCTION if may and may[0][0] else _BY_VIEW
        self._first = Counters.read(connection)
        self._ours, self._all = Tally(), Tally()
        self._ports: set[int] = set()  # of the service
        self._foreign: set[int] = set()  # of others
        self._relation_at_s = 0.0
        self._own_statements = self._failed = 0
        self._began_s = time.monotonic()

    def begin(self) -> None:
        """Read the counters."""
        self._first = Counters.read(self._connection)
        self._began_s = time.monotonic()

    def sample(self) -> None:
        """Look at all sessions once; a statement that fails is skipped, a connection that broke off ends the probe."""
        try:
            self._own_statements += 1
            sessions = [Activity(*row) for row in query(self._connection, self._statement)]
        except CannotMeasure:
            self._failed += 1
            if self._connection.closed or self._connection.broken or self._failed > SAMPLES_FAILED_MAX:
                raise
            return
        everybody = {session.pid: session for session in sessions}
        counted = [s for s in sessions if s.hidden or (s.backend_type in (None, "client backend") and s.application_name != APPLICATION_NAME)]
        ports = self._service_ports({s.client_port for s in counted if s.client_port and s.client_port > 0})
        self._all.add(counted, everybody, self._relation)
        self._ours.add([session for session in counted if session.client_port in ports], everybody, self._relation)

    def finish(self) -> Sequence[Observation]:
        """Counters first, then the plans of what was most active."""
        window_s = time.monotonic() - self._began_s
        last = Counters.read(self._connection)
        tally = self._ours if self._ours.seen else self._all
        if tally.hidden and not tally.seen:
            return (Unavailable(probe=ID, reason=f"the role {self._connection.info.user} cannot see what other sessions run", fix=INSTALL),)
        statements = last.statements_since(self._first)
        return (
            PostgresObservation(
                window_s=window_s,
                host=self._address.host,
                port=self._address.port,
                database=self._address.database,
                server_version=self._connection.info.server_version,
                samples=tally.samples,
                sample_hz=tally.samples / window_s if window_s > 0 else 0.0,
                queries=tally.queries(statements),
                tables=last.tables_since(self._first),
                locks=tally.locks(),
                plans=self._plans(tally),
                sessions_max=tally.sessions_max,
                sessions_active_mean=tally.active / tally.samples if tally.samples else 0.0,
                sessions_idle_in_transaction_mean=tally.idle_in_transaction / tally.samples if tally.samples else 0.0,
                max_connections=int(query(self._connection, "select current_setting('max_connections')::int")[0][0]),
                commits=max(0, last.commits - self._first.commits - self._own_statements),  # each sample of ours is a commit, too
                has_pg_stat_statements=last.statements is not None,
            ),
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _service_ports(self, seen: set[int]) -> set[int]:
        """Which of the clients' ports are the service's; its sockets are listed only when the database shows a port that nobody was asked about yet."""
        if self._access.pids and not seen <= self._ports | self._foreign:
            try:
                found = {entry.local_port for entry in sockets_of(self._access.pids)} - {self._target.port}
            except CannotMeasure:  # no netlink here: all sessions are counted then
                found = set()
            self._ports = (self._ports | found) & seen  # a port that is closed may be another's next time
            self._foreign = seen - self._ports
        return self._ports

    def _relation(self, waiting: Activity) -> str:
        """The table whose lock a session waits for: of the ungranted lock, or (where it waits for a transaction) of the row it is after; empty where not seen."""
        now = time.monotonic()
        if now - self._relation_at_s < RELATION_EVERY_S:
            return ""
        self._relation_at_s = now
        try:
            self._own_statements += 1
            rows = query(self._connection, _WANTS, (waiting.pid, list(waiting.blocked_by or ())))
        except CannotMeasure:
            return ""
        return str(rows[0][0]) if rows else ""

    def _plans(self, tally: Tally) -> tuple[QueryPlan, ...]:
        found = []
        for key, _ in sorted(tally.waits.items(), key=lambda item: -item[1].total())[:PLANS_MAX]:
            if key not in tally.texts:
                continue
            try:
                plan, generic = explain(self._connection, tally.texts[key])
            except UsageError:  # no statement that has a plan (COMMIT, SET …)
                continue
            except CannotMeasure:
                if self._connection.closed or self._connection.broken:
                    raise
                continue  # not granted, cut off, or a parameter whose type cannot be told
            found.append(QueryPlan(query_id=key, generic=generic, plan=plan if generic else without_literals(plan)))
        return tuple(found)


def start(target: Target, access: Access) -> PostgresSession | Unavailable:
    """Connect with the read-only role; errors say which credential or grant is missing."""
    if not access.postgres_dsn:
        return Unavailable(probe=ID, reason="no credential for PostgreSQL is configured", fix='[target] postgres = "env:NAME" with the DSN of a read-only role')
    connection = connect_readonly(access.postgres_dsn, statement_timeout_s=STATEMENT_TIMEOUT_S)
    try:
        return PostgresSession(connection, target, access)
    except BaseException:
        connection.close()
        raise
