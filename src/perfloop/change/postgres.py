"""What the kinds of change on PostgreSQL share: connections by the owner's role, patience with a server that restarts, and commands a person would type."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from perfloop.change.base import ChangeContext, absolute_reference
from perfloop.errors import CannotMeasure, ChangeRefused, UndoFailed, UsageError
from perfloop.model.change import Change
from perfloop.model.finding import Proposal
from perfloop.sql.connect import connect_admin

Connection = psycopg.Connection[tuple[Any, ...]]
CONNECT_MAX_S = 30.0
LOCK_MAX_S = 2  # a change must not queue on a busy table: everybody behind it would wait, too


def reference_of(proposal: Proposal, context: ChangeContext) -> str:
    """The reference to the owner's DSN; ``ChangeRefused`` where none is configured."""
    reference = absolute_reference(str(proposal.params.get("dsn_ref") or context.config.target.postgres_admin), context.base_dir)
    if not reference:
        raise ChangeRefused(
            "no role may change the database",
            why="target.postgres_admin is empty",
            fix='set target.postgres_admin = "env:NAME" to the DSN of the role that owns the tables',
        )
    return reference


def application(change_id: str) -> str:
    """The application name by which the server knows what is ours."""
    return f"perfloop:{change_id}"


@contextmanager
def connected(reference: str, context: ChangeContext, purpose: str, statement_s: int = 60, lock_s: int = LOCK_MAX_S) -> Iterator[Connection]:
    """A connection by the owner's role with limits; the database's own errors become ``CannotMeasure``."""
    connection = connect_admin(context.resolve(reference))
    try:
        connection.execute("SELECT pg_catalog.set_config('application_name', %s, false)", (application(purpose),))
        for name, seconds in (("statement_timeout", statement_s), ("lock_timeout", lock_s)):
            connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, f"{seconds}s"))
        yield connection
    except psycopg.Error as error:
        raise CannotMeasure(
            "the database did not do as asked", why=text_of(error), fix="check that it runs, and the grants of the role in target.postgres_admin"
        ) from None
    finally:
        connection.close()


@contextmanager
def undoing(change: Change, context: ChangeContext, statement_s: int = 120) -> Iterator[Connection]:
    """A connection to undo by. A server that is down or restarts is waited for; what fails then makes the change stuck."""
    deadline = time.monotonic() + CONNECT_MAX_S
    while True:
        try:
            with connected(change.params["dsn_ref"], context, "undo", statement_s, lock_s=30) as connection:
                yield connection
                return
        except UsageError as error:
            raise stuck(change, f"{error.what}: {error.why}") from error
        except CannotMeasure as error:
            if time.monotonic() > deadline or "did not do as asked" in error.what:
                raise stuck(change, f"{error.what}: {error.why}") from error
        time.sleep(0.5)


def apply_refused(change: Change, error: CannotMeasure) -> ChangeRefused:
    """The refusal that a failed statement becomes."""
    return ChangeRefused(f"not applied: {change.title}", why=error.why or error.what, fix=error.fix)


def stuck(change: Change, why: str) -> UndoFailed:
    """An undo that did not work, with the commands to run by hand."""
    return UndoFailed(f"could not undo: {change.title}", why=why, commands=change.undo_commands)


def text_of(error: psycopg.Error) -> str:
    """The server's own message on one line."""
    return " ".join(str(error.diag.message_primary or error).split())[:500]


def psql(reference: str, statement: str) -> str:
    """What a person would type."""
    kind, _, name = reference.partition(":")
    dsn = f'"${name}"' if kind == "env" else f'"$(cat {shlex.quote(name)})"'
    return f"psql {dsn} -c {shlex.quote(statement.rstrip(';') + ';')}"


def end_backend(backend: dict[str, Any], change: Change, context: ChangeContext) -> None:
    """Ends what of this change still runs in the server, and waits for it."""
    if not backend.get("pid"):
        return
    with undoing(change, context) as connection:
        deadline = time.monotonic() + CONNECT_MAX_S
        where = "FROM pg_catalog.pg_stat_activity WHERE pid = %s AND application_name = %s"
        ours = (backend["pid"], application(change.id))
        while connection.execute(f"SELECT 1 {where}", ours).fetchone():
            connection.execute(f"SELECT pg_catalog.pg_terminate_backend(pid) {where}", ours)
            if time.monotonic() > deadline:
                raise stuck(change, f"backend {backend['pid']} does not end")
            time.sleep(0.2)


def table_of(connection: Connection, schema: str, table: str) -> tuple[int, str]:
    """(oid, quoted name) of a table; ``ChangeRefused`` where there is none."""
    row = connection.execute(
        "SELECT c.oid::bigint, quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'm', 'p')",
        (schema or "public", table),
    ).fetchone()
    if row is None:
        raise ChangeRefused(f"there is no table {schema}.{table}", why="the catalogue does not know it", fix="check the query and the search path")
    return int(row[0]), str(row[1])
