"""How many statements a database has executed so far, read at two moments: for queries per request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from perfloop.errors import CannotMeasure
from perfloop.sql.connect import connect_readonly, query
from perfloop.sql.mysql import connect_mysql, mysql_text

Count = Callable[[], int]

_EXTENSION = """
select quote_ident(n.nspname) from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where e.extname = 'pg_stat_statements'
"""
_CALLS = """
select coalesce(sum(calls), 0)::bigint from {schema}.pg_stat_statements(false)
where toplevel and dbid = (select oid from pg_catalog.pg_database where datname = current_database())
"""


@contextmanager
def statements_postgres(dsn: str) -> Iterator[Count]:
    """Statements that clients sent to this database, those of a transaction's ends included. ``CannotMeasure`` without pg_stat_statements."""
    connection = connect_readonly(dsn)
    try:
        schema = query(connection, _EXTENSION)
        if not schema:
            raise CannotMeasure(
                "the queries of a request cannot be counted", why="the database has no pg_stat_statements", fix="CREATE EXTENSION pg_stat_statements"
            )
        text = _CALLS.format(schema=schema[0][0])
        yield lambda: int(query(connection, text)[0][0])
    finally:
        connection.close()


@contextmanager
def statements_mysql(dsn: str) -> Iterator[Count]:
    """Statements that clients sent to this server (``Questions``)."""
    import pymysql

    connection = connect_mysql(dsn)

    def count() -> int:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SHOW GLOBAL STATUS LIKE 'Questions'")
                return int(cursor.fetchone()[1])
        except pymysql.MySQLError as error:
            raise CannotMeasure("the server's statements cannot be counted", why=mysql_text(error)) from None

    try:
        yield count
    finally:
        connection.close()
