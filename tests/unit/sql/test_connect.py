"""Connections by role against a real server, and all the ways they fail."""

from __future__ import annotations

import socket
import threading
from typing import Any

import psycopg
import pytest

from perfloop.errors import CannotMeasure, PerfloopError, UsageError
from perfloop.sql import connect


def safe(error: PerfloopError) -> bool:
    told = error.render() + repr(error) + repr(error.__cause__) + repr(error.__context__ if not error.__suppress_context__ else "")
    return bool(error.what and error.fix) and "geheim" not in told


def test_the_reader_reads_and_cannot_write(database: Any) -> None:
    with connect.connect_readonly(database.reader) as connection:
        assert connect.query(connection, "select count(*) from orders") == [(5000,)]
        assert connect.query(connection, "select current_setting('application_name'), current_setting('transaction_read_only')") == [("perfloop", "on")]
        for text in ("create temp table x (a int)", "insert into orders(id) values (1)", "select nextval('s')", "create table x (a int)"):
            with pytest.raises(CannotMeasure) as caught:
                connect.query(connection, text)
            assert safe(caught.value)
        with pytest.raises(CannotMeasure):
            connect.query(connection, "select 1; select 2")  # one statement at a time


def test_a_statement_is_limited_in_time(database: Any) -> None:
    with connect.connect_readonly(database.reader, statement_timeout_s=0.1) as connection, pytest.raises(CannotMeasure, match="too long"):
        connect.query(connection, "select pg_sleep(5)")


def test_a_read_only_transaction_ends_clean(database: Any) -> None:
    with connect.connect_readonly(database.reader) as connection:
        with pytest.raises(CannotMeasure), connect.readonly_transaction(connection):
            connection.execute("select * from no_such_table")
        with connect.readonly_transaction(connection):
            assert connection.execute("select 1").fetchone() == (1,)
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


@pytest.mark.parametrize(("user", "words"), [("postgres", "superuser"), ("monitor", "pg_monitor"), ("files", "pg_read_server_files")])
def test_powerful_roles_are_refused_by_name(database: Any, user: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        connect.connect_readonly(database.admin.replace("postgres@", f"{user}@"))
    assert user in caught.value.what
    assert words in caught.value.what
    assert caught.value.why
    assert safe(caught.value)


def test_the_admin_connection_may_write(database: Any) -> None:
    with connect.connect_admin(database.admin) as connection:
        connection.execute("create table made (a int)")
        connection.execute("create index concurrently made_a on made (a)")
        connection.execute("drop table made")


def test_wrong_password(database: Any) -> None:
    with pytest.raises(CannotMeasure, match="refuses the password of role reader") as caught:
        connect.connect_readonly(database.reader.replace("geheim", "sehrgeheim"))
    assert safe(caught.value)
    assert caught.value.exit_code == 3


def test_no_password(database: Any) -> None:
    with pytest.raises(CannotMeasure, match="refuses the password") as caught:
        connect.connect_readonly(database.reader.replace(":geheim", ""))
    assert safe(caught.value)


def test_no_such_database(database: Any) -> None:
    with pytest.raises(CannotMeasure, match="no database of that name") as caught:
        connect.connect_readonly(database.reader.replace("/postgres", "/nothing"))
    assert safe(caught.value)


def test_no_such_role(database: Any) -> None:
    with pytest.raises(CannotMeasure, match="has no role nobody_here") as caught:
        connect.connect_readonly(database.admin.replace("postgres@", "nobody_here@"))
    assert "CREATE ROLE nobody_here" in caught.value.fix


def test_no_tls(database: Any) -> None:
    with pytest.raises(CannotMeasure, match="no TLS") as caught:
        connect.connect_readonly(database.reader + "?sslmode=require")
    assert safe(caught.value)


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(CannotMeasure, match="is not there") as caught:
        connect.connect_readonly(f"postgresql://u:geheim@127.0.0.1:{port}/d")
    assert safe(caught.value)
    with pytest.raises(CannotMeasure, match="is not there") as caught:
        connect.connect_readonly("postgresql://u:geheim@/d?host=/no/such/folder")
    assert safe(caught.value)


def test_who_listens_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(CannotMeasure, match="did not answer") as caught:
        connect.connect_readonly(f"postgresql://u:geheim@127.0.0.1:{listener.getsockname()[1]}/d", connect_timeout_s=2)
    assert safe(caught.value)


def test_who_listens_talks_something_else() -> None:
    def talk(listener: socket.socket) -> None:
        for _ in range(3):
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=talk, args=(listener,), daemon=True).start()
        with pytest.raises(CannotMeasure) as caught:
            connect.connect_readonly(f"postgresql://u:geheim@127.0.0.1:{listener.getsockname()[1]}/d", connect_timeout_s=2)
    assert safe(caught.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "   ",
        "postgresql//u:geheim@h/d",
        "geheim",
        "host=h password='geheim",
        "host=h passwort=geheim",
        "postgresql://u:geheim@h:port/d",
        "postgresql://u:geheim@h/d?nonsense=1",
        "postgresql://u:ge heim@h:99999999/d",
        "mysql://u:geheim@h/d",
        "host=h\0 password=geheim",
        "postgresql://u:geheim%ZZ@h/d",
        "postgresql://u:geheim@[::1/d",
    ],
)
def test_what_is_no_dsn(dsn: str) -> None:
    with pytest.raises(PerfloopError) as caught:
        connect.connect_readonly(dsn)
    assert isinstance(caught.value, UsageError | CannotMeasure)
    assert safe(caught.value)
    assert "heim" not in caught.value.render()


def test_where_a_dsn_leads() -> None:
    assert connect.address_of("postgresql://u:geheim@h:6543/d") == connect.Address("h", 6543, "d", "u")
    assert connect.address_of("host=/run/pg user=u password=geheim").port == 0
    assert str(connect.address_of("postgresql://u:geheim@h/d")) == "h:5432/d"


def test_a_database_that_dies_is_said(database: Any) -> None:
    with connect.connect_readonly(database.reader) as connection:
        with psycopg.connect(database.admin, autocommit=True) as admin:
            admin.execute("select pg_terminate_backend(%s)", (connection.info.backend_pid,))
        with pytest.raises(CannotMeasure, match="broke off") as caught:
            connect.query(connection, "select 1")
    assert safe(caught.value)
