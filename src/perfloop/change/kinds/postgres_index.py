"""``postgres-index``: an index made by ``CREATE INDEX CONCURRENTLY`` and taken away by ``DROP INDEX CONCURRENTLY``, invalid leftovers too.

Sources: PostgreSQL manual, "Building Indexes Concurrently" (a failed build leaves an invalid index that costs on every write) and
"pg_terminate_backend" (a killed client's statement goes on in the server until it is ended).
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from perfloop.change import building, indexes
from perfloop.change.base import ChangeContext, Note, absolute_reference, hash_of, new_id, refuse_stale
from perfloop.errors import CannotMeasure, ChangeRefused, UndoFailed, UsageError
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal
from perfloop.sql.connect import connect_admin

ID = "postgres-index"
OPERATION = "index_creation"
COSTLY = True  # to make: the first round of the proof without it is the rehearsal of its undo
BUILD_MAX_S = 280  # below the 300 s of the lease that holds while it is built
BUILD_LOCK_MAX_S = 120  # a concurrent build waits for older transactions; so long at most
DROP_MAX_S = 60
OLDEST_TRANSACTION_MAX_S = 60.0
CANCEL_MAX_S = 30.0
CONNECT_MAX_S = 30.0  # a server that restarts is waited for
UNDO_MAX_S = 240.0  # of tries, below the 300 s that an undo may take
TITLE_COLUMNS_MAX = 4


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``schema`` (empty: by the search path), ``table``, ``columns`` as names or (name, "asc"/"desc"), ``include``, ``dsn_ref``, ``database``, ``wait_max_s`` (for older transactions, at most 120)."""
    reference = absolute_reference(str(proposal.params.get("dsn_ref") or context.config.target.postgres_admin), context.base_dir)
    if not reference:
        raise ChangeRefused(
            "no role may create indexes",
            why="target.postgres_admin is empty",
            fix='set target.postgres_admin = "env:NAME" to the DSN of the role that owns the tables',
        )
    columns = _columns(proposal.params.get("columns", ()))
    include = [str(column) for column in proposal.params.get("include", ())]
    with _connected(reference, context, "plan") as connection:
        table = indexes.table(connection, str(proposal.params.get("schema", "")), str(proposal.params.get("table", "")))
        if table is None:
            raise ChangeRefused(
                f"there is no table {proposal.params.get('table')!r}", why="the catalogue does not know it", fix="check the query and the search path"
            )
        _check(table, connection, columns, include)
        size = indexes.estimated_bytes(table, columns, include)
        name = indexes.free_name(connection, table.schema, table.name, columns)
        create = indexes.create_statement(connection, table.schema, table.name, name, columns, include)
        drop = indexes.drop_statement(connection, table.schema, name)
        database = connection.info.dbname
        params = {
            "dsn_ref": reference,
            "database": database,
            "schema": table.schema,
            "table": table.name,
            "table_oid": table.oid,
            "columns": columns,
            "include": include,
            "wait_max_s": int(proposal.params.get("wait_max_s", BUILD_LOCK_MAX_S)),
        }
        params |= {"index": name, "command": f"{create};", "rollback_command": f"{drop};"}
        return Change(
            id=new_id(),
            kind=ID,
            title=proposal.title or f"index {table.name} ({', '.join(column for column, _ in columns[:TITLE_COLUMNS_MAX])})",
            params=params,
            before={"index": None},
            after={"index": [table.schema, table.name, columns, include]},
            live_hash=_live_hash(connection, table.oid),
            diff=f"{create};",
            risk=f"writes to {table.name} become a little slower; about {size / 2**20:.1f} MiB of disk"
            if size is not None
            else f"writes to {table.name} become a little slower; the size is unknown",
            reach=f"database {database}",
            safety=Safety.SAFE,
            undo_commands=(_psql(reference, drop),),
            apply_commands=(_psql(reference, create),),
            resources=(f"database:{database}", f"table:{table.name}", f"index:{name}"),
        )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """``index``: its state (``valid``, ``invalid``), or None where there is none of that name."""
    with _connected(change.params["dsn_ref"], context, "read") as connection:
        found = indexes.index_named(connection, change.params["schema"], change.params["index"])
    return {"index": None if found is None else "valid" if found.valid else "invalid"}


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Builds the index without blocking writes; the backend that builds is recorded first, so that it can be ended without us."""
    params = change.params
    with _connected(params["dsn_ref"], context, change.id) as connection:
        table = indexes.table(connection, params["schema"], params["table"])
        if table is None or table.oid != params["table_oid"]:
            raise ChangeRefused(
                f"not applied: {change.title}", why=f"the table {params['table']} is gone or another one now", fix="make a new plan: perfloop plan"
            )
        refuse_stale(change, _live_hash(connection, table.oid))
        if reason := indexes.obstacle(connection, table, indexes.estimated_bytes(table, params["columns"], params["include"]), OLDEST_TRANSACTION_MAX_S):
            raise ChangeRefused(f"not applied: {change.title}", why=reason, fix="wait until that has passed, then run this again")
        wait_s = min(BUILD_LOCK_MAX_S, int(params.get("wait_max_s", BUILD_LOCK_MAX_S)))
        _limit(connection, BUILD_MAX_S, wait_s)
        note({"type": "postgresql", "pid": connection.info.backend_pid, "application_name": _application(change.id), "index": params["index"]})
        create = indexes.create_statement(connection, params["schema"], params["table"], params["index"], params["columns"], params["include"])
        until = time.monotonic() + BUILD_MAX_S / 2
        try:
            building.build(lambda: _connected(params["dsn_ref"], context, "watch"), connection, create, table.oid, (params["schema"], params["index"]), until)
        except (psycopg.Error, CannotMeasure) as error:
            raise ChangeRefused(
                f"the index could not be built: {change.title}",
                why=_text(error) if isinstance(error, psycopg.Error) else error.why or error.what,
                fix="look for long transactions and locks on that table (pg_stat_activity), then run this again",
            ) from None


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Ends the backend that builds for us (by its pid *and* our name in it) and waits until it is gone."""
    if backend.get("type") != "postgresql":
        return
    with _undoing(change, context) as connection:
        deadline = time.monotonic() + CANCEL_MAX_S
        name, pid = _application(change.id), int(backend["pid"])
        while indexes.running(connection, name, pid):
            connection.execute(
                "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE pid = %s AND application_name = %s", (pid, name)
            )
            if time.monotonic() > deadline:
                raise _stuck(change, f"backend {pid} still builds it {CANCEL_MAX_S:g} s after it was told to end")
            time.sleep(0.05)


def verify(change: Change, context: ChangeContext) -> bool:
    """True where the catalogue has the index, valid, ready, and made as asked."""
    with _connected(change.params["dsn_ref"], context, "read") as connection:
        found = indexes.index_named(connection, change.params["schema"], change.params["index"])
    return found is not None and found.valid and indexes.is_ours(found, change.params)


def undo(change: Change, context: ChangeContext) -> None:
    """Drops the index, finished or invalid, where it is ours; one of that name that is made otherwise is left alone (``UndoFailed``)."""
    params, last = change.params, ""
    deadline = time.monotonic() + UNDO_MAX_S
    while time.monotonic() < deadline:
        with _undoing(change, context) as connection:
            found = indexes.index_named(connection, params["schema"], params["index"])
            if found is None:
                return
            if not indexes.is_ours(found, params):
                raise _stuck(change, f"the index {params['index']} is not the one that was made: somebody else changed it, and it was left alone")
            _limit(connection, DROP_MAX_S, DROP_MAX_S)
            statement = indexes.drop_statement(connection, found.schema, found.name)
            try:
                last = building.drop(lambda: _connected(params["dsn_ref"], context, "watch"), connection, statement)
            except (psycopg.Error, CannotMeasure) as error:  # a deadlock with our own ended build, a server that restarts: look again
                last = _text(error) if isinstance(error, psycopg.Error) else error.why or error.what
            if last:
                time.sleep(0.5)
    raise _stuck(change, last or "it could not be dropped in time")


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where no index of that name is left, and nothing of ours builds one."""
    with _connected(change.params["dsn_ref"], context, "read") as connection:
        busy = connection.execute("SELECT 1 FROM pg_catalog.pg_stat_activity WHERE application_name = %s", (_application(change.id),)).fetchone()
        return busy is None and indexes.index_named(connection, change.params["schema"], change.params["index"]) is None


def _connect(reference: str, context: ChangeContext, purpose: str) -> indexes.Connection:
    connection = connect_admin(context.resolve(reference))
    try:
        connection.execute("SELECT pg_catalog.set_config('application_name', %s, false)", (_application(purpose),))
    except psycopg.Error as error:
        connection.close()
        raise CannotMeasure("the database did not do as asked", why=_text(error), fix="check that it runs") from None
    return connection


@contextmanager
def _connected(reference: str, context: ChangeContext, purpose: str) -> Iterator[indexes.Connection]:
    connection = _connect(reference, context, purpose)
    try:
        yield connection
    except psycopg.Error as error:
        raise CannotMeasure(
            "the database did not do as asked", why=_text(error), fix="check that it runs, and the grants of the role in target.postgres_admin"
        ) from None
    finally:
        connection.close()


@contextmanager
def _undoing(change: Change, context: ChangeContext) -> Iterator[indexes.Connection]:
    """A connection to undo by; a database that is down or restarting is waited for, then the change is stuck."""
    connection = _patiently(change, context)
    try:
        yield connection
    except psycopg.Error as error:
        raise _stuck(change, _text(error)) from None
    finally:
        connection.close()


def _patiently(change: Change, context: ChangeContext) -> indexes.Connection:
    deadline = time.monotonic() + CONNECT_MAX_S
    while True:
        try:
            return _connect(change.params["dsn_ref"], context, "undo")
        except CannotMeasure as error:
            if time.monotonic() > deadline:
                raise _stuck(change, f"{error.what}: {error.why}") from error
        except UsageError as error:  # the credential is not there: waiting does not help
            raise _stuck(change, f"{error.what}: {error.why}") from error
        time.sleep(0.5)


def _check(table: indexes.Table, connection: indexes.Connection, columns: list[list[str]], include: list[str]) -> None:
    if table.kind not in "rm":
        raise ChangeRefused(
            f"{table.name} takes no index that is built concurrently",
            why={"p": "it is partitioned", "v": "it is a view", "f": "it is a foreign table"}[table.kind],
            fix="create it on the partitions or tables below, one by one",
        )
    missing = [column for column in [*(column for column, _ in columns), *include] if column not in table.columns]
    if missing or not columns:
        raise ChangeRefused(
            f"{table.name} has no column {', '.join(missing)}" if missing else "no columns to index",
            why=f"it has {', '.join(table.columns)}",
            fix="check the proposal",
        )
    for index in indexes.indexes_of(connection, table.oid):
        if indexes.covers(index, columns, include):
            raise ChangeRefused(
                f"{table.name} already has that index",
                why=f"{index.name} begins with the same columns",
                fix="see why it is not used: EXPLAIN, or ANALYZE the table",
            )


def _columns(given: Any) -> list[list[str]]:
    columns = []
    for column in given:
        name, direction = (column, "asc") if isinstance(column, str) else (column[0], str(column[1]).lower())
        if direction not in ("asc", "desc"):
            raise ChangeRefused(f"{direction!r} is no direction of an index column", fix="write asc or desc")
        columns.append([str(name), direction])
    return columns


def _live_hash(connection: indexes.Connection, table_oid: int) -> str:
    return hash_of([table_oid, [[index.name, index.keys, index.include, index.valid] for index in indexes.indexes_of(connection, table_oid)]])


def _limit(connection: indexes.Connection, statement_s: int, lock_s: int) -> None:
    for name, seconds in (("statement_timeout", statement_s), ("lock_timeout", lock_s)):
        connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, f"{seconds}s"))


def _application(change_id: str) -> str:
    return f"perfloop:{change_id}"


def _text(error: psycopg.Error) -> str:
    return " ".join(str(error.diag.message_primary or error).split())[:500]


def _psql(reference: str, statement: str) -> str:
    kind, _, name = reference.partition(":")
    dsn = f'"${name}"' if kind == "env" else f'"$(cat {shlex.quote(name)})"'
    return f"psql {dsn} -c {shlex.quote(statement + ';')}"


def _stuck(change: Change, why: str) -> UndoFailed:
    return UndoFailed(f"could not undo: {change.title}", why=why, commands=change.undo_commands)
