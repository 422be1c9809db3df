"""What perfloop may see and do in the configured PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from perfloop.errors import PerfloopError
from perfloop.host.secrets import resolve
from perfloop.model.config import Config

Row = tuple[str, bool | None, str, str, str]
_NEED_READ = "queries, plans, tables and locks"
_NEED_ADMIN = "building an index"


def database_capabilities(config: Config, base_dir: str | Path, activity_sql: str) -> list[Row]:
    """(name, ok, reason, fix, needed for) of each check of the database; connects by both roles where they are configured."""
    if not config.target.postgres:
        return [
            (
                "database, to look",
                None,
                "target.postgres is not configured",
                "set target.postgres = \"env:NAME\" to the DSN of a role that only reads: CREATE ROLE perfloop_ro LOGIN PASSWORD '…'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO perfloop_ro;",
                _NEED_READ,
            ),
            *_admin(config, base_dir),
        ]
    return [*_reader(config, base_dir, activity_sql), *_admin(config, base_dir)]


def _said(error: PerfloopError) -> str:
    return error.what + (f": {error.why}" if error.why else "")


def _reader(config: Config, base_dir: str | Path, activity_sql: str) -> list[Row]:
    from perfloop.sql.connect import address_of, connect_readonly, query

    rows: list[Row] = []
    try:
        dsn = resolve(config.target.postgres, base_dir)
        with connect_readonly(dsn) as connection:
            version = connection.info.server_version
            rows.append(
                (
                    "database, to look",
                    True,
                    f"PostgreSQL {version // 10000}.{version % 10000} at {address_of(dsn)}, role {connection.info.user} may only read",
                    "",
                    _NEED_READ,
                )
            )
            ((function,),) = query(
                connection,
                "select to_regprocedure('perfloop.activity()') is not null and has_function_privilege(to_regprocedure('perfloop.activity()')::oid, 'execute')",
            )
            reason = "the function perfloop.activity() is here" if function else "without it a role with no grants sees only its own sessions"
            role = connection.info.user
            rows.append(
                (
                    "sessions of the database",
                    bool(function),
                    reason,
                    "" if function else f"run this once as a superuser:\n{_for_role(activity_sql, role)}",
                    "queries that run, and their waits",
                )
            )
            ((computed,),) = query(connection, "select current_setting('compute_query_id')")
            ok = computed in ("on", "auto")
            has = bool(query(connection, "select 1 from pg_catalog.pg_extension where extname = 'pg_stat_statements'"))
            on = computed == "on" or has  # auto means: where an extension asks for it
            rows.append(
                (
                    "query ids",
                    ok and on,
                    f"compute_query_id = {computed}",
                    "" if ok and on else "ALTER SYSTEM SET compute_query_id = on; SELECT pg_reload_conf();",
                    "telling queries apart",
                )
            )
            rows.append(
                (
                    "pg_stat_statements",
                    True if has else None,
                    "it is here" if has else "not installed: calls are counted by sampling",
                    "" if has else "CREATE EXTENSION pg_stat_statements (and shared_preload_libraries), where your server has it",
                    "exact calls and times of each query",
                )
            )
    except PerfloopError as error:
        rows.append(("database, to look", False, _said(error), error.fix, _NEED_READ))
    return rows


def _for_role(text: str, role: str) -> str:
    """The text for the role that is configured here (the file is written for the role ``perfloop_ro``)."""
    quoted = role if role.replace("_", "a").isalnum() and role.islower() else '"' + role.replace('"', '""') + '"'
    return text.replace("perfloop_ro", quoted)


def _admin(config: Config, base_dir: str | Path) -> list[Row]:
    if not config.target.postgres_admin:
        return [
            (
                "database, to change",
                None,
                "target.postgres_admin is not configured",
                'set target.postgres_admin = "env:NAME" to the DSN of the role that owns the tables',
                _NEED_ADMIN,
            )
        ]
    from perfloop.sql.connect import connect_admin, query

    try:
        with connect_admin(resolve(config.target.postgres_admin, base_dir)) as connection:
            ((owned, count),) = query(
                connection,
                "select count(*) filter (where pg_catalog.pg_has_role(current_user, relowner, 'USAGE')), count(*) from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
                " where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\\_toast%'",
            )
            ((recovery,),) = query(connection, "select pg_catalog.pg_is_in_recovery()")
            role = connection.info.user
    except PerfloopError as error:
        return [("database, to change", False, _said(error), error.fix, _NEED_ADMIN)]
    if recovery:
        return [("database, to change", False, "this server is a standby: it takes no changes", "refer target.postgres_admin to the primary", _NEED_ADMIN)]
    ok = owned > 0
    return [
        (
            "database, to change",
            ok,
            f"role {role} owns {owned} of {count} tables",
            "" if ok else "refer target.postgres_admin to the role that owns the tables: only an owner may build an index",
            _NEED_ADMIN,
        )
    ]
