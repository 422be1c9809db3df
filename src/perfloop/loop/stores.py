"""A database or cache as the target of load: how to log in, whether this login may send load, and what is there."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from perfloop.context.discover import discover_store
from perfloop.errors import UsageError
from perfloop.host.secrets import resolve
from perfloop.load.engines import database
from perfloop.load.journeys import journeys_from_config
from perfloop.loop.measure import Meter
from perfloop.model.config import Config
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.journey import Journeys, Step
from perfloop.model.limits import Place, place_of
from perfloop.model.target import Environment

TABLES_MAX = 10_000
_LOCAL = frozenset(("localhost", "127.0.0.1", "::1"))
_ROWS = {
    "postgresql": """select n.nspname || '.' || c.relname, greatest(c.reltuples, 0)::bigint from pg_catalog.pg_class c
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p', 'm') and n.nspname !~ '^pg_' limit 10000""",
    "mysql": "select concat(table_schema, '.', table_name), coalesce(table_rows, 0) from information_schema.tables where table_schema = database() limit 10000",
}


def known(
    config: Config, base_dir: Path, environment: Environment, deadline: float, run_id: str
) -> Generator[Event, None, tuple[Meter, Journeys, tuple[str, ...]]]:
    """Logs in once, refuses a login that could do harm and questions that may not be asked, and finds the server's process; also what the user should know."""
    yield PhaseStarted(phase="understand", detail=config.target.url)
    place, dsn = place_of(config.target.url), dsn_of(config, base_dir)
    if config.target.allow_writes and environment != Environment.SANDBOX:
        raise UsageError(
            "target.allow_writes holds in a sandbox only", why=f"the target is {environment}", fix='set target.environment = "sandbox", or leave it out'
        )
    if config.journeys:
        journeys = journeys_from_config(config.journeys, base_dir)
    else:
        ping = Step(name="PING", command="PING") if place.scheme == "redis" else Step(name="select 1", sql="select 1")
        journeys = Journeys(steps=(ping,), source="address: there are no journeys, so it is only asked whether it answers")
    target = discover_store(config, base_dir)
    meter = Meter(
        config,
        target,
        journeys.steps,
        (),
        deadline,
        journeys.journeys,
        run_id,
        engine=database,
        store={"dsn": dsn, "writes_allowed": config.target.allow_writes},
    )
    database.check(meter.workload(1.0, 1.0, 1))
    notes = _looked(place, dsn, journeys, config.target.allow_writes)
    if target.processes:
        yield Told(text=f"{target.url} is process {target.processes[0].pid}: {target.processes[0].name}")
    yield Told(text=f"{len(journeys.steps) + len(journeys.journeys)} kinds of question, from the {journeys.source}")
    for note in notes:
        yield Told(level="warning", text=note)
    return meter, journeys, notes


def dsn_of(config: Config, base_dir: Path) -> str:
    """How to connect to ``target.url``: by the login of ``target.postgres``, ``mysql`` or ``redis`` where that leads there, else by none. ``UsageError`` where it leads elsewhere."""
    place = place_of(config.target.url)
    field = {"postgresql": "postgres", "mysql": "mysql", "redis": "redis"}.get(place.scheme, "")
    reference = str(getattr(config.target, field, ""))
    if not reference:
        return _plain(place)
    dsn = resolve(reference, base_dir)
    host, port, name = _leads(place.scheme, dsn)
    same_host = place.socket in ("", host) and (place.host == host or bool(place.socket) or {place.host, host} <= _LOCAL)
    if not same_host or (place.port and port and place.port != port) or (place.name or name) != name:
        raise UsageError(
            f"target.{field} leads to another place than target.url",
            why=f"it leads to {host}{f':{port}' if port else ''}/{name}",
            fix=f"let target.{field} refer to the login of {config.target.url}",
        )
    return dsn


def _leads(scheme: str, dsn: str) -> tuple[str, int, str]:
    if scheme == "postgresql":
        from perfloop.sql.connect import address_of

        address = address_of(dsn)
        return address.host, address.port, address.database
    if scheme == "mysql":
        from perfloop.sql.mysql import connect_words

        words = connect_words(dsn)
        return words["unix_socket"] or words["host"], 0 if words["unix_socket"] else words["port"], words["database"] or ""
    parts = urlsplit(dsn)
    if parts.scheme == "unix":
        return parts.path, 0, ""
    return parts.hostname or "localhost", parts.port or 6379, parts.path.strip("/")


def _plain(place: Place) -> str:
    """The address as a DSN without a login."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    options = f"?{urlencode(place.options)}" if place.options else ""
    if place.scheme == "postgresql":
        if place.socket:
            return f"postgresql:///{place.name}?{urlencode({'host': place.socket, 'port': place.port or 5432})}"
        return f"postgresql://{host}:{place.port}/{place.name}{options}"
    if place.scheme == "mysql":
        return f"mysql://localhost/{place.name}?unix_socket={place.socket}" if place.socket else f"mysql://{host}:{place.port}/{place.name}{options}"
    if place.socket:
        return f"unix://{place.socket}" + (f"?db={place.name}" if place.name else "")
    tls = place.options.get("tls") == "true" or place.options.get("ssl") == "true"
    return f"{'rediss' if tls else 'redis'}://{host}:{place.port}/{place.name}"


def _looked(place: Place, dsn: str, journeys: Journeys, writes_allowed: bool) -> tuple[str, ...]:
    """Asks the server itself: who we are, and how large the tables are that are read whole."""
    from perfloop.load.engines.stores.questions import DIALECTS, Commands, command_of, statement_of
    from perfloop.sql.guard import check_load_sql

    steps = [*journeys.steps, *(step for journey in journeys.journeys for step in journey.steps)]
    if place.scheme == "redis":
        from perfloop.sql.redis import command_flags, connect_redis

        with closing(connect_redis(dsn)) as client:
            commands = Commands(command_flags(client), writes_allowed)
        for step in steps:
            commands.check(command_of(step.command).words)
        return ()
    rows = _postgres_rows(dsn, writes_allowed) if place.scheme == "postgresql" else _mysql_rows(dsn, writes_allowed)
    found: dict[str, None] = {}
    for step in steps:
        guarded = statement_of(step.sql, DIALECTS[place.scheme], writes_allowed).guarded
        warnings = check_load_sql(guarded, DIALECTS[place.scheme], writes_allowed=writes_allowed, table_rows=rows).warnings
        found |= dict.fromkeys(f"{step.name}: {warning}" for warning in warnings)
    return tuple(found)


def _postgres_rows(dsn: str, writes_allowed: bool) -> dict[str, int]:
    from perfloop.sql.connect import connect_readonly, query

    with closing(connect_readonly(dsn, any_role=writes_allowed)) as connection:
        return {str(name): int(count) for name, count in query(connection, _ROWS["postgresql"], rows_max=TABLES_MAX)}


def _mysql_rows(dsn: str, writes_allowed: bool) -> dict[str, int]:
    from perfloop.sql.mysql import check_account, connect_mysql

    with closing(connect_mysql(dsn)) as connection, connection.cursor() as cursor:
        if not writes_allowed:
            check_account(connection)
        cursor.execute(_ROWS["mysql"])
        return {str(name): int(count) for name, count in cursor.fetchall()}
