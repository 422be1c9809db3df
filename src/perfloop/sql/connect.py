"""Connections to PostgreSQL by role. No message, traceback or repr ever holds a password."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import conninfo

from perfloop.errors import CannotMeasure, PerfloopError, UsageError

APPLICATION_NAME = "perfloop"
CONNECT_TIMEOUT_S = 5
READ_STATEMENT_TIMEOUT_S = 10.0
ADMIN_STATEMENT_TIMEOUT_S = 60.0
HIDDEN = "***"
Connection = psycopg.Connection[tuple[Any, ...]]

# What a role may do by itself, or by SET ROLE, that a read-only transaction does not stop: COPY … TO PROGRAM, files, ending sessions.
_DANGERS = """
select r.rolname = current_user as own, r.rolname, r.rolsuper, r.rolcreaterole, r.rolreplication
from pg_catalog.pg_roles r
where pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER')
  and (r.rolsuper or r.rolcreaterole or r.rolreplication or r.rolname like 'pg\\_%')
order by r.rolname = current_user desc, r.rolsuper desc, r.rolname limit 20
"""
_ROLES_FIX = "use a role that only reads: CREATE ROLE perfloop_ro LOGIN PASSWORD '…'; GRANT USAGE ON SCHEMA public TO perfloop_ro; GRANT SELECT ON ALL TABLES IN SCHEMA public TO perfloop_ro;"


@dataclass(frozen=True)
class Address:
    """Where a DSN leads, without the password. ``port`` is 0 where ``host`` is the folder of a Unix socket."""

    host: str
    port: int
    database: str
    user: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.database}" if self.port else f"{self.host}/{self.database}"


def address_of(dsn: str) -> Address:
    """Where a DSN (URL or key=value) leads; UsageError, without its text, where it is none."""
    parts = _parts(dsn)
    host = str(parts.get("host") or parts.get("hostaddr") or "localhost").split(",")[0]
    try:
        port = int(str(parts.get("port") or 5432).split(",")[0])
    except ValueError:
        port = -1
    if not 0 < port < 65_536:
        raise UsageError("the PostgreSQL DSN has a port that is no number from 1 to 65535", "", "write postgresql://user:password@host:5432/database")
    user = str(parts.get("user") or "")
    return Address(host, 0 if host.startswith("/") else port, str(parts.get("dbname") or user), user)


def _parts(dsn: str) -> dict[str, Any]:
    try:
        if not dsn.strip():
            raise ValueError
        return dict(conninfo.conninfo_to_dict(dsn))
    except (psycopg.Error, ValueError, UnicodeError):
        pass  # the parser's own message repeats parts of the DSN, the password among them
    raise UsageError(
        "the PostgreSQL DSN cannot be read",
        "it is neither a postgresql:// address nor key=value pairs (its text is not shown, it may hold a password)",
        "write postgresql://user:password@host:5432/database; signs like @ / : in the password as %40 %2F %3A",
    )


def connect_readonly(
    dsn: str, statement_timeout_s: float = READ_STATEMENT_TIMEOUT_S, connect_timeout_s: int = CONNECT_TIMEOUT_S, any_role: bool = False
) -> Connection:
    """A connection that cannot write: each transaction is READ ONLY, statements are limited in time, and the role must be harmless by itself.

    ``any_role`` lets a superuser in, where the user said so. Autocommit, so that each statement sees fresh activity; use :func:`readonly_transaction` for several statements or for text from outside.
    Raises CannotMeasure (not there, refused, no TLS, timeout) and UsageError (a DSN that is none; a role that is a superuser or has pg_* grants).
    """
    connection = _connect(dsn, statement_timeout_s, connect_timeout_s, "-c default_transaction_read_only=on")
    try:
        connection.read_only = True
        if not any_role:
            check_role(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_admin(dsn: str, statement_timeout_s: float = ADMIN_STATEMENT_TIMEOUT_S, connect_timeout_s: int = CONNECT_TIMEOUT_S) -> Connection:
    """A connection by the role that owns the tables, for changes only; autocommit, as CREATE INDEX CONCURRENTLY needs. 0 lifts the time limit."""
    return _connect(dsn, statement_timeout_s, connect_timeout_s, "-c lock_timeout=10s")


def connection_options(dsn: str, statement_timeout_s: float, connect_timeout_s: int, options: str) -> dict[str, Any]:
    """What psycopg needs for a connection of ours, password included: name, limits, and further settings of the session. UsageError for a DSN that is none."""
    parts = _parts(dsn)
    return parts | {
        "application_name": APPLICATION_NAME,
        "connect_timeout": max(2, int(connect_timeout_s)),
        "options": f"{parts.get('options') or ''} -c statement_timeout={int(statement_timeout_s * 1000)} -c idle_in_transaction_session_timeout=60000 {options}".strip(),
    }


def _connect(dsn: str, statement_timeout_s: float, connect_timeout_s: int, options: str) -> Connection:
    parts, address = connection_options(dsn, statement_timeout_s, connect_timeout_s, options), address_of(dsn)
    text = ""
    try:
        return psycopg.connect(**parts, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        text = str(error)
    except (UnicodeError, ValueError):
        text = "the DSN holds signs that cannot be sent"
    raise _failure(address, hide(text, dsn), connect_timeout_s)


def hide(text: str, dsn: str) -> str:
    """A message without the DSN's password or other secrets of it."""
    parts = _parts(dsn)
    for name in ("password", "sslpassword", "passfile", "oauth_client_secret"):
        secret = str(parts.get(name) or "")
        if secret:
            text = text.replace(secret, HIDDEN)
    return text.replace(dsn, HIDDEN)


_FAILURES: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("password authentication failed", "no password supplied", "authentication failed"),
        "PostgreSQL at {address} refuses the password of role {user}",
        "check the credential that target.postgres refers to",
    ),
    (
        ("unsupported startup parameter",),
        "the pooler at {address} does not let perfloop set a time limit",
        "connect to PostgreSQL itself, not through the pooler",
    ),
    (("no pg_hba.conf entry",), "PostgreSQL at {address} does not let role {user} in from here", "add a line for it to pg_hba.conf, then reload"),
    (("role ",), "PostgreSQL at {address} has no role {user}", "create it: CREATE ROLE {user} LOGIN PASSWORD '…'; and grant it SELECT on the tables"),
    (("database ",), "PostgreSQL at {address} has no database of that name", "check the name in the DSN: psql -l lists them"),
    (("ssl", "tls", "certificate"), "no TLS with PostgreSQL at {address}", "check sslmode and sslrootcert in the DSN"),
    (("refused", "no such file"), "PostgreSQL at {address} is not there", "start it, or check host and port in the DSN"),
    (("timeout", "timed out"), "PostgreSQL at {address} did not answer within {timeout} s", "check host, port and firewall"),
    (("translate host", "resolve host", "name or service", "getaddrinfo"), "the host of PostgreSQL at {address} is not known", "check the host in the DSN"),
    (("too many", "remaining connection slots"), "PostgreSQL at {address} has no connection left", "raise max_connections, or close idle sessions"),
    (("starting up", "shutting down", "recovery"), "PostgreSQL at {address} takes no connections now", "wait until it has started"),
)


def _failure(address: Address, text: str, connect_timeout_s: int) -> CannotMeasure:
    why = " ".join(text.split())[-300:]
    low = text.lower()
    for needles, what, fix in _FAILURES:
        if any(needle in low for needle in needles) and (needles not in (("role ",), ("database ",)) or "does not exist" in low):
            return CannotMeasure(
                what.format(address=address, user=address.user or "(none)", timeout=connect_timeout_s), why, fix.format(user=address.user or "NAME")
            )
    return CannotMeasure(f"cannot connect to PostgreSQL at {address}", why, "check the DSN with psql")


def check_role(connection: Connection) -> None:
    """Refuse a role that could do harm in spite of a read-only transaction: a superuser, CREATEROLE, REPLICATION, or a member of such a role or of any pg_* role."""
    rows = query(connection, _DANGERS)
    if not rows:
        return
    user = connection.info.user
    own, name, is_super, creates, replicates = rows[0]
    if own:
        ability = "is a superuser" if is_super else "may create roles" if creates else "may replicate" if replicates else "has a name beginning with pg_"
        raise UsageError(
            f"the role {user} must not be used to look: it {ability}",
            "a read-only transaction does not stop it from running programs, reading files or ending sessions",
            _ROLES_FIX,
        )
    names = ", ".join(str(row[1]) for row in rows)
    raise UsageError(
        f"the role {user} must not be used to look: it is a member of {names}",
        "these roles can read or write files, see other databases or end sessions, also in a read-only transaction",
        f"revoke {name} from {user}, or " + _ROLES_FIX,
    )


@contextlib.contextmanager
def readonly_transaction(connection: Connection) -> Iterator[Connection]:
    """A READ ONLY transaction that is rolled back at its end; PerfloopErrors pass, errors of the database become CannotMeasure."""
    connection.read_only = True
    try:
        with connection.transaction(force_rollback=True):
            yield connection
    except PerfloopError:
        raise
    except psycopg.Error as error:
        raise database_error(connection, error) from None


def query(connection: Connection, text: str, parameters: tuple[Any, ...] = (), *, rows_max: int = 100_000) -> list[tuple[Any, ...]]:
    """Rows of one statement of our own, by the extended protocol (which takes one statement only); CannotMeasure with the database's reason."""
    try:
        with connection.cursor(binary=True) as cursor:
            cursor.execute(text.encode(), parameters or None)
            return cursor.fetchmany(rows_max)
    except psycopg.Error as error:
        raise database_error(connection, error) from None


def database_error(connection: Connection, error: psycopg.Error) -> CannotMeasure:
    """What a user can act on, for an error of a statement."""
    detail = (error.diag.message_primary or str(error).partition("\n")[0] or type(error).__name__)[:300]
    if connection.closed or connection.broken:
        return CannotMeasure("the connection to PostgreSQL broke off", detail, "check that the database runs, then run the command again")
    if isinstance(error, psycopg.errors.QueryCanceled):
        return CannotMeasure("PostgreSQL took too long to answer", detail, "try again when the database is less busy")
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return CannotMeasure(f"the role {connection.info.user} may not read what is needed", detail, f"grant it: GRANT SELECT ON … TO {connection.info.user}")
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return CannotMeasure("the database refused a write", detail, "use reads only")
    return CannotMeasure("PostgreSQL refused a statement", detail, "check server version and privileges: perfloop doctor")
