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

    words = connect_words(dsn)
    ca_file = words.pop("ssl")
    try:
        return pymysql.connect(
            **words,
            ssl={"ca": ca_file} if ca_file else None,
            connect_timeout=CONNECT_MAX_S,
            read_timeout=STATEMENT_MAX_S,
            write_timeout=STATEMENT_MAX_S,
            autocommit=True,
        )
    except (pymysql.MySQLError, OSError, ValueError) as error:
        raise CannotMeasure(f"cannot connect to MySQL at {words['host']}", why=mysql_text(error), fix="check the DSN with mysql") from None


def connect_words(dsn: str) -> dict[str, Any]:
    """Where and as whom to connect, for any driver: host, port, user, password, database, unix_socket, and ``ssl``, a CA file. UsageError for what is no such DSN."""
    parts = urlsplit(dsn)
    if parts.scheme not in ("mysql", "mariadb"):
        raise UsageError("the DSN is not one of MySQL or MariaDB", fix="write mysql://user:password@host:port/name")
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    try:
        port = parts.port or 3306
    except ValueError:
        raise UsageError("the DSN has a port that is no number from 1 to 65535", fix="write mysql://user:password@host:3306/name") from None
    return {
        "host": parts.hostname or "127.0.0.1",
        "port": port,
        "user": unquote(parts.username or "root"),
        "password": unquote(parts.password or ""),
        "database": parts.path.strip("/") or None,
        "unix_socket": options.get("unix_socket"),
        "ssl": options.get("ssl_ca"),
    }


def limits_of(version: str, statement_max_s: float, writes_allowed: bool) -> tuple[str, ...]:
    """The statements that bound a session of this server: time of a statement, and reads only where writes are not allowed."""
    if "mariadb" in version.lower():
        bounds = [f"set session max_statement_time = {statement_max_s:g}"]
    else:
        bounds = [f"set session max_execution_time = {int(statement_max_s * 1000)}"]
    return tuple(bounds if writes_allowed else [*bounds, "set session transaction read only"])


#: global privileges by which an account can do harm in spite of a read-only transaction: files, other sessions, other accounts
_DANGERS = ("ALL PRIVILEGES", "SUPER", "FILE", "SHUTDOWN", "CREATE USER", "CONNECTION ADMIN", "READ_ONLY ADMIN", "READ ONLY ADMIN", "SET USER", "BINLOG ADMIN")


def check_account(connection: Any) -> None:
    """Refuse an account that could do harm in spite of a read-only transaction: by a privilege on all databases that reaches files, sessions or accounts."""
    with connection.cursor() as cursor:
        cursor.execute("show grants")
        grants = [str(row[0]) for row in cursor.fetchall()]
    for grant in grants:
        privileges, _, rest = grant.removeprefix("GRANT ").partition(" ON ")
        if not rest.startswith("*.*"):
            continue
        held = {word.strip().upper() for word in privileges.split(",")}
        if found := [danger for danger in _DANGERS if danger in held]:
            raise UsageError(
                "the account must not be used to send load",
                why=f"it has {found[0]} on *.*, which a read-only transaction does not stop",
                fix="use an account that only reads: CREATE USER perfloop_ro IDENTIFIED BY '…'; GRANT SELECT ON shop.* TO perfloop_ro;",
            )


def mysql_text(error: BaseException) -> str:
    """The server's words of an error, on one line; servers and drivers repeat no password."""
    return " ".join(str(error.args[-1] if error.args else error).split())[:300]
