"""Plans by EXPLAIN, never executed: no ANALYZE, in a read-only transaction, one statement by the extended protocol."""

from __future__ import annotations

import json
import re
from typing import Any

import psycopg

from perfloop.errors import CannotMeasure, UsageError
from perfloop.sql.connect import Connection, database_error, readonly_transaction
from perfloop.sql.parse import LEXEMES, TEXT_MAX_CHARS

TIMEOUT_MS = 5_000
_EXPLAINABLE = re.compile(r"^\s*(?:\(\s*)*(?:select|with|insert|update|delete|merge|values|table)\b", re.I)
_PARAMETERS_MAX = 1_000


def parameters_in(text: str) -> int:
    """The highest ``$n`` of a text, outside of strings and comments; 0 where there is none."""
    return max((int(match[0][1:]) for match in LEXEMES.finditer(text) if match.lastgroup == "parameter" and match[0][1:].isdigit()), default=0)


def explain(connection: Connection, text: str, parameters: tuple[Any, ...] = ()) -> tuple[dict[str, Any], bool]:
    """(plan, generic): the plan of one statement as EXPLAIN (FORMAT JSON) tells it, the object with the key ``Plan``.

    Text with ``$1`` is planned generically (``generic`` True), unless values for all of them are given. Raises UsageError where the text is no SELECT, INSERT,
    UPDATE, DELETE, MERGE, VALUES or TABLE, CannotMeasure where the database cannot plan it (a missing privilege, a type that cannot be told, a text cut off).
    """
    if len(text) > TEXT_MAX_CHARS:
        raise UsageError("the SQL text is too long to be planned", f"{len(text)} characters; at most {TEXT_MAX_CHARS}", "give a shorter statement")
    bare = re.sub(r"^(?:\s|--[^\n]*\n|/\*.*?\*/)+", "", text, flags=re.S).rstrip("; \t\r\n")
    if not _EXPLAINABLE.match(bare):
        raise UsageError(
            "this statement has no plan",
            f"it begins with {bare.split(None, 1)[0][:20]!r}" if bare else "it is empty",
            "give a SELECT, INSERT, UPDATE, DELETE, MERGE or VALUES",
        )
    count = parameters_in(bare)
    if count > _PARAMETERS_MAX:
        raise UsageError("the statement has too many parameters to be planned", f"${count}; at most ${_PARAMETERS_MAX}", "give fewer")
    with readonly_transaction(connection):
        connection.execute(f"SET LOCAL statement_timeout = {TIMEOUT_MS}".encode())
        if not count:
            return plan_of(connection, f"EXPLAIN (FORMAT JSON) {bare}"), False
        if parameters:
            return plan_of(connection, f"EXPLAIN (FORMAT JSON) {bare}", parameters), False
        return _generic_by_prepare(connection, bare, count), True


def plan_of(connection: Connection, statement: str, parameters: tuple[Any, ...] = ()) -> dict[str, Any]:
    """Runs one EXPLAIN by the extended protocol, below psycopg's own placeholders so that ``%`` and ``$1`` mean what PostgreSQL means."""
    values = [None if value is None else str(value).encode() for value in parameters]
    result = connection.pgconn.exec_params(statement.encode(), values or None)
    if result.status != psycopg.pq.ExecStatus.TUPLES_OK:
        raise database_error(connection, _error_of(result))
    data = b"\n".join(result.get_value(row, 0) or b"" for row in range(result.ntuples))
    try:
        return dict(json.loads(data)[0])
    except (ValueError, IndexError, TypeError):
        raise CannotMeasure(
            "PostgreSQL told no plan that can be read", f"{len(data)} bytes that are no JSON", "check the server version: perfloop doctor"
        ) from None


def _error_of(result: psycopg.pq.abc.PGresult) -> psycopg.Error:
    return psycopg.errors.error_from_result(result)


def _generic_by_prepare(connection: Connection, bare: str, count: int) -> dict[str, Any]:
    """A prepared statement whose plan may not look at its values, which every version since 12 can.

    Not EXPLAIN (GENERIC_PLAN): by the extended protocol it plans for the values bound, and the simple protocol would take several statements.
    """
    connection.execute(b"SET LOCAL plan_cache_mode = force_generic_plan")
    connection.execute(f"PREPARE perfloop_plan AS {bare}".encode(), binary=True)
    try:
        return plan_of(connection, f"EXPLAIN (FORMAT JSON) EXECUTE perfloop_plan({', '.join(['NULL'] * count)})")
    finally:
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS:
            connection.execute(b"DEALLOCATE perfloop_plan")
