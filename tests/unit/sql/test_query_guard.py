"""What may be looked at by running it: one SELECT, no function that writes, and never by a role that could do harm."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from perfloop.errors import CannotMeasure, UsageError
from perfloop.sql.connect import connect_readonly
from perfloop.sql.measured import measure
from perfloop.sql.query_guard import one_query, refuse_volatile

REFUSED = (
    ("not sql at all", "no SQL"),
    ("SELECT 1; SELECT 2", "more than one statement"),
    ("COPY orders TO PROGRAM 'id'", "COPY"),
    ("COPY orders TO '/tmp/x'", "COPY"),
    ("SELECT pg_read_file('/etc/passwd')", "pg_read_file"),
    ("SELECT * FROM pg_ls_dir('/')", "pg_ls_dir"),
    ("SELECT lo_import('/etc/passwd')", "lo_import"),
    ("DELETE FROM orders", "DELETE"),
    ("WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x", "DELETE"),
    ("SELECT * INTO copied FROM orders", "SELECT INTO"),
    ("SELECT * FROM orders FOR UPDATE", "FOR UPDATE"),
    ("SELECT nextval('s')", "nextval"),
    ("SELECT dblink('host=x', 'select 1')", "dblink"),
    ("EXPLAIN ANALYZE SELECT 1", ""),
    ("", "no SQL statement"),
)


@pytest.mark.parametrize(("text", "told"), REFUSED)
def test_what_is_no_single_reading_statement_is_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError) as error:
        one_query(text)
    assert told in error.value.what + error.value.why


@pytest.mark.parametrize(
    "text", ["SELECT 'drop table orders'", "WITH a AS (SELECT 1) SELECT * FROM a", "VALUES (1)", "SELECT 1 UNION SELECT 2;", "select $1::int"]
)
def test_reads_pass(text: str) -> None:
    assert one_query(text) == text.rstrip(";")


def test_a_volatile_function_is_refused(database: Any, reader: psycopg.Connection[Any]) -> None:
    with psycopg.connect(database.admin, autocommit=True) as admin:
        admin.execute(
            "create function touch_all() returns int language sql as 'select 1'; create function pure_one() returns int stable language sql as 'select 1'"
        )
        try:
            with pytest.raises(UsageError, match="touch_all is a volatile function"):
                refuse_volatile(reader, "select touch_all() from orders")
            refuse_volatile(reader, "select pure_one(), random(), now() from orders")
        finally:
            admin.execute("drop function touch_all, pure_one")


def test_a_superuser_is_let_in_only_when_told(database: Any) -> None:
    with pytest.raises(UsageError, match="is a superuser"):
        connect_readonly(database.admin)
    with connect_readonly(database.admin, any_role=True) as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("create table x (i int)")


def test_the_query_is_executed_and_its_nodes_are_told(database: Any, reader: psycopg.Connection[Any]) -> None:
    with connect_readonly(database.reader) as watcher:
        run = measure(reader, watcher, "select count(*) from orders where note like '%secret%'", (), 5.0)
    assert len(run.times_ms) == 3
    assert run.best_ms > 0
    scan = next(node for node in run.nodes if node.relation)
    assert (scan.relation, scan.removed, scan.rows_actual) == ("public.orders", 5000, 0)
    assert "secret" not in run.model_dump_json()


def test_a_lock_is_told_with_its_holder(database: Any, reader: psycopg.Connection[Any]) -> None:
    with psycopg.connect(database.admin) as holder, connect_readonly(database.reader) as watcher:
        holder.execute("lock table customers in access exclusive mode")
        run = measure(reader, watcher, "select count(*) from customers", (), 30.0)
        pid = holder.info.backend_pid
        holder.rollback()
    assert run.timed_out
    assert run.lock_wait_ms > 1000
    assert f"pid {pid}" in run.blockers[0]
    assert "AccessExclusiveLock on customers" in run.blockers[0]


def test_a_server_that_vanishes_is_told(database: Any, reader: psycopg.Connection[Any]) -> None:
    with connect_readonly(database.reader) as watcher, psycopg.connect(database.admin, autocommit=True) as admin:
        admin.execute("select pg_terminate_backend(%s)", (reader.info.backend_pid,))
        with pytest.raises(CannotMeasure, match="broke off"):
            measure(reader, watcher, "select 1", (), 5.0)
