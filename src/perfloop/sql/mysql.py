"""Connections to MySQL and MariaDB for changes: from a DSN, with limits, and errors without secrets."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from perfloop.errors import CannotMeasure, UsageError

CONNECT_MAX_S = 5
STATEMENT_MAX_S = 30


def connect_mysql(dsn: str) -> Any:
    """A connection by ``mysql://user:password@host:port/name`` (or ``mariadb://``; ``?unix_socket=PATH`` for a socket), autocommit.

    Raises UsageError for what is no such DSN, CannotMeasure where the server is not there or refuses.
    """
    import pymysql

    parts = urlsplit(dsn)
    if parts.scheme not in ("mysql", "mariadb"):
        raise UsageError("the DSN is not one of MySQL or MariaDB", fix="write mysql://user:password@host:port/name")
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    try:
        return pymysql.connect(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 3306,
            user=unquote(parts.username or "root"),
            password=unquote(parts.password or ""),
            database=parts.path.strip("/") or None,
            unix_socket=options.get("unix_socket"),
            ssl={"ca": options["ssl_ca"]} if options.get("ssl_ca") else None,
            connect_timeout=CONNECT_MAX_S,
            read_timeout=STATEMENT_MAX_S,
            write_timeout=STATEMENT_MAX_S,
            autocommit=True,
        )
    except (pymysql.MySQLError, OSError, ValueError) as error:
        raise CannotMeasure(f"cannot connect to MySQL at {parts.hostname or 'localhost'}", why=mysql_text(error), fix="check the DSN with mysql") from None


def mysql_text(error: BaseException) -> str:
    """The server's words of an error, on one line; servers and drivers repeat no password."""
    return " ".join(str(error.args[-1] if error.args else error).split())[:300]
