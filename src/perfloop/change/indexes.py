"""PostgreSQL indexes as the catalogue holds them: what a table has, what an index is made of, and what of ours still runs."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

Connection = psycopg.Connection[tuple[Any, ...]]
NAME_MAX_BYTES = 63
#: pg_index.indoption of a key column written with its defaults: ASC NULLS LAST, DESC NULLS FIRST
_OPTION = {"asc": 0, "desc": 3}
_TUPLE_OVERHEAD_BYTES = 16  # index tuple header and line pointer
REPLAY_LAG_MAX_S = 60.0
_FILL = 1.3  # leaf fill factor, inner pages, alignment

_INDEXES = """
SELECT i.indexrelid, n.nspname, c.relname, i.indisvalid, i.indisready, i.indrelid,
       am.amname = 'btree' AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (
         SELECT 1 FROM unnest(i.indclass) AS o(opclass) JOIN pg_catalog.pg_opclass oc ON oc.oid = o.opclass WHERE NOT oc.opcdefault) AS plain,
       i.indisunique,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k(attnum, n)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.n) AS names,
       i.indnkeyatts, i.indoption::int2[]
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_am am ON am.oid = c.relam
"""


@dataclass(frozen=True)
class Table:
    """A table as the catalogue names it; ``kind`` is pg_class.relkind, ``rows`` the planner's estimate (-1: never analysed)."""

    oid: int
    schema: str
    name: str
    kind: str
    rows: float
    pages: int
    columns: dict[str, int]  # name → average width in bytes


@dataclass(frozen=True)
class Index:
    """An index and its make; ``plain`` is a btree of columns with default operators and no predicate."""

    oid: int
    schema: str
    name: str
    valid: bool
    table_oid: int
    plain: bool
    unique: bool
    keys: tuple[tuple[str, int], ...]  # (column, indoption)
    include: tuple[str, ...]


def table(connection: Connection, schema: str, name: str) -> Table | None:
    """The table ``schema.name`` (by the search path where no schema is given), or None."""
    row = connection.execute(
        "SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.reltuples, c.relpages FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relname = %(name)s AND c.relkind IN ('r', 'p', 'm', 'f', 'v')"
        " AND CASE WHEN %(schema)s = '' THEN pg_catalog.pg_table_is_visible(c.oid) ELSE n.nspname = %(schema)s END",
        {"name": name, "schema": schema},
    ).fetchone()
    if row is None:
        return None
    columns = connection.execute(
        "SELECT a.attname::text, coalesce(s.avg_width, CASE WHEN a.attlen > 0 THEN a.attlen ELSE 32 END) FROM pg_catalog.pg_attribute a"
        " LEFT JOIN pg_catalog.pg_stats s ON s.schemaname = %s AND s.tablename = %s AND s.attname = a.attname WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped",
        (row[1], row[2], row[0]),
    ).fetchall()
    return Table(row[0], row[1], row[2], row[3], row[4], row[5], {str(column): int(width) for column, width in columns})


def indexes_of(connection: Connection, table_oid: int) -> tuple[Index, ...]:
    """All indexes of a table, by name."""
    return tuple(_index(row) for row in connection.execute(_INDEXES + " WHERE i.indrelid = %s ORDER BY c.relname", (table_oid,)).fetchall())


def index_named(connection: Connection, schema: str, name: str) -> Index | None:
    """The index of that name, valid or not."""
    row = connection.execute(_INDEXES + " WHERE n.nspname = %s AND c.relname = %s", (schema, name)).fetchone()
    return _index(row) if row else None


def _index(row: tuple[Any, ...]) -> Index:
    names, n_keys, options = row[8], row[9], row[10]
    return Index(
        row[0],
        row[1],
        row[2],
        bool(row[3] and row[4]),
        row[5],
        bool(row[6]),
        bool(row[7]),
        tuple(zip(names[:n_keys], options[:n_keys], strict=False)),
        tuple(names[n_keys:]),
    )


def keys_of(columns: list[list[str]]) -> tuple[tuple[str, int], ...]:
    """The key columns of a proposal as the catalogue would hold them."""
    return tuple((column, _OPTION[direction]) for column, direction in columns)


def covers(index: Index, columns: list[list[str]], include: list[str]) -> bool:
    """True where ``index`` already does what an index on ``columns`` would: they are its prefix, read in the same direction or all backwards."""
    wanted = keys_of(columns)
    prefix = index.keys[: len(wanted)]
    backwards = tuple((column, option ^ 3) for column, option in wanted)
    return index.valid and index.plain and prefix in (wanted, backwards) and set(include) <= {column for column, _ in index.keys} | set(index.include)


def is_ours(index: Index, params: dict[str, Any]) -> bool:
    """True where the definition is exactly what we asked for, whether it was finished or not."""
    return (
        index.table_oid == params["table_oid"]
        and index.plain
        and not index.unique
        and index.keys == keys_of(params["columns"])
        and index.include == tuple(params["include"])
    )


def free_name(connection: Connection, schema: str, table_name: str, columns: list[list[str]]) -> str:
    """``idx_TABLE_COLUMNS``, at most 63 bytes, and not the name of anything in that schema."""
    wanted = "_".join(["idx", table_name, *(column for column, _ in columns)])
    if len(wanted.encode()) > NAME_MAX_BYTES:
        wanted = wanted.encode()[:50].decode(errors="ignore") + "_" + hashlib.sha256(wanted.encode()).hexdigest()[:8]
    taken = {
        row[0]
        for row in connection.execute(
            "SELECT c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s", (schema,)
        ).fetchall()
    }
    numbers = iter(range(2, 1000))
    name = wanted
    while name in taken:
        name = f"{wanted.encode()[:58].decode(errors='ignore')}_{next(numbers)}"
    return name


def create_statement(connection: Connection, schema: str, table_name: str, name: str, columns: list[list[str]], include: list[str]) -> str:
    """The DDL, every identifier quoted."""
    keys = sql.SQL(", ").join(sql.Identifier(column) + sql.SQL(" DESC" if direction == "desc" else "") for column, direction in columns)
    text = sql.SQL("CREATE INDEX CONCURRENTLY {} ON {} USING btree ({})").format(sql.Identifier(name), sql.Identifier(schema, table_name), keys)
    if include:
        text += sql.SQL(" INCLUDE ({})").format(sql.SQL(", ").join(map(sql.Identifier, include)))
    return text.as_string(connection)


def drop_statement(connection: Connection, schema: str, name: str) -> str:
    """The DDL that takes it away again, every identifier quoted."""
    return sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(schema, name)).as_string(connection)


def estimated_bytes(of: Table, columns: list[list[str]], include: list[str]) -> int | None:
    """How large the index will about be; None where the table was never analysed."""
    if of.rows < 0:
        return None
    width = sum(of.columns[column] for column in [*(column for column, _ in columns), *include])
    return int(of.rows * (width + _TUPLE_OVERHEAD_BYTES) * _FILL)


def obstacle(connection: Connection, of: Table, size_bytes: int | None, oldest_max_s: float) -> str:
    """Why an index should not be built now: no space, another build, an old transaction that it would wait for; empty where nothing speaks against it."""
    other = connection.execute("SELECT pid FROM pg_catalog.pg_stat_progress_create_index WHERE relid = %s AND pid <> pg_backend_pid()", (of.oid,)).fetchone()
    if other:
        return f"backend {other[0]} is building an index on that table now"
    oldest = connection.execute(
        "SELECT pid, extract(epoch FROM now() - xact_start)::float8 FROM pg_catalog.pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend' AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 1"
    ).fetchone()
    if oldest and oldest[1] > oldest_max_s:
        return f"backend {oldest[0]} has a transaction open for {oldest[1]:.0f} s, which a concurrent build would wait for"
    prepared = connection.execute("SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = current_database() ORDER BY prepared LIMIT 1").fetchone()
    if prepared:
        return f"the prepared transaction {prepared[0]} is open, which a concurrent build would wait for"
    behind = connection.execute(
        "SELECT application_name, extract(epoch FROM replay_lag)::float8 FROM pg_catalog.pg_stat_replication WHERE replay_lag IS NOT NULL ORDER BY 2 DESC LIMIT 1"
    ).fetchone()
    if behind and behind[1] > REPLAY_LAG_MAX_S:
        return f"the replica {behind[0]} is {behind[1]:.0f} s behind, and the build's log would put it further behind"
    free_bytes = _free_bytes(connection)
    if size_bytes is not None and free_bytes is not None and free_bytes < 2 * size_bytes:
        return f"the index needs about {size_bytes // 2**20} MiB, and {free_bytes // 2**20} MiB are free where the data lies"
    return ""


def _free_bytes(connection: Connection) -> int | None:
    """Free space where a new index would lie; None where the server is elsewhere or does not tell."""
    try:
        row = connection.execute(
            "SELECT coalesce((SELECT nullif(pg_catalog.pg_tablespace_location(t.oid), '') FROM pg_catalog.pg_tablespace t, pg_catalog.pg_database d"
            " WHERE d.datname = current_database() AND t.oid = coalesce((SELECT s.oid FROM pg_catalog.pg_tablespace s WHERE s.spcname = current_setting('default_tablespace')), d.dattablespace)),"
            " current_setting('data_directory'))"
        ).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    local = connection.info.host.startswith("/") or connection.info.host in ("127.0.0.1", "::1", "localhost", "")
    try:
        return shutil.disk_usage(Path(str(row[0]))).free if row and local else None
    except OSError:
        return None


def running(connection: Connection, application_name: str, pid: int) -> bool:
    """True while the backend ``pid`` is there and carries our name: a reused pid does not."""
    return (
        connection.execute("SELECT 1 FROM pg_catalog.pg_stat_activity WHERE pid = %s AND application_name = %s", (pid, application_name)).fetchone() is not None
    )
