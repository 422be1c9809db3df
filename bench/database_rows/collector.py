"""The collector (counters of statements and tables, and the server's state) once a minute at 5,000 distinct queries: its own CPU, and the server's time for it."""

from __future__ import annotations

import time
from typing import Any

from bench.database_tools.server import Server
from bench.table import Row

QUERIES = 5_000
LOOKS = 10
SHARE, SERVER = "collector: share of a core, one look a minute at 5,000 distinct queries", "collector: server time a minute"


def rows(options: Any) -> list[Row]:
    """On Debian's PostgreSQL 15 with pg_stat_statements; where that is not installed the rows say so."""
    settings = ("shared_preload_libraries=pg_stat_statements", "pg_stat_statements.max=10000", "pg_stat_statements.track=all")
    try:
        server = Server(options.work, "collector", 15, settings)
    except FileNotFoundError as error:
        return [Row(SHARE, None, "%", "≤ 0.5", None, why=str(error)), Row(SERVER, None, "ms", "≤ 10", None, why=str(error))]
    with server:
        return measured(server)


def measured(server: Server) -> list[Row]:
    from perfloop.model.target import Environment, Target
    from perfloop.observe.base import Access
    from perfloop.observe.counters import Counters
    from perfloop.observe.probes import postgres_health
    from perfloop.sql.connect import connect_readonly

    with server.connect() as owner:
        owner.execute("create extension if not exists pg_stat_statements")
        owner.execute("drop table if exists wide")
        owner.execute(f"create table wide ({', '.join(f'c{n} int' for n in range(80))})".encode())
        owner.execute("select pg_stat_statements_reset()")
        owner.execute("do $$ begin if not exists (select from pg_roles where rolname = 'looks') then create role looks login; end if; end $$")
        owner.execute("grant select on wide to looks")
        with server.connect("looks") as service:  # a role without pg_* grants sees its own statements only
            for n in range(QUERIES):
                service.execute(f"select c{n % 80} from wide where c{n // 80} = 1".encode())
        known = owner.execute("select count(*) from pg_stat_statements").fetchone()
        dsn = server.dsn("looks")
        target = Target(name="t", url="http://127.0.0.1", host="127.0.0.1", port=1, local=True, environment=Environment.SANDBOX)
        health: Any = postgres_health.start(target, Access(postgres_dsn=dsn))
        with connect_readonly(dsn) as connection:
            first = Counters.read(connection)
            assert first.statements is not None
            assert len(first.statements) >= QUERIES, (len(first.statements), known)
            spent, own = server_ms(owner), time.process_time()
            for _ in range(LOOKS):
                now = Counters.read(connection)
                now.statements_since(first)
                health.finish()
                first = now
            own_s, server_spent = (time.process_time() - own) / LOOKS, (server_ms(owner) - spent) / LOOKS
        health.close()
    share = 100 * own_s / 60
    return [
        Row(SHARE, round(share, 3), "%", "≤ 0.5", share <= 0.5),
        Row(SERVER, round(server_spent, 2), "ms", "≤ 10", server_spent <= 10),
    ]


def server_ms(owner: Any) -> float:
    """What the role of the collector cost the server so far, as the server itself counts it."""
    row = owner.execute(
        "select coalesce(sum(s.total_exec_time + s.total_plan_time), 0) from pg_stat_statements s join pg_roles r on r.oid = s.userid where r.rolname = 'looks'"
    ).fetchone()
    return float(row[0])


if __name__ == "__main__":
    from pathlib import Path
    from types import SimpleNamespace

    for row in rows(SimpleNamespace(work=Path("/tmp/perfloop-bench-collector"))):
        print(row)
