"""Queries per request, counted by real databases while a real service sends them: one state sends one, the other one for each row."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from perfloop.context.discover import discover
from perfloop.errors import PerfloopError
from perfloop.host.http import fetch
from perfloop.loop.measure import Meter
from perfloop.loop.queries import counted
from perfloop.model.config import BudgetConfig, Config, TargetConfig
from perfloop.model.journey import Step
from perfloop.model.target import Environment
from perfloop.sql.counted import statements_mysql
from perfloop.validate.budgets import Queries, check_budgets
from perfloop.validate.question import Question
from services import MariaDb
from services.postgres import Postgres, postgres_debian
from services.server import free_port

SERVICE = """
import sys, psycopg
from http.server import BaseHTTPRequestHandler, HTTPServer
connection = psycopg.connect(sys.argv[2], autocommit=True)
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        for _ in range(int(sys.argv[3]) if self.path == "/list" else 1):
            connection.execute("select 1").fetchall()
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *_): pass
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
STEPS = (Step(name="GET /list", paths=("/list",)), Step(name="GET /one", paths=("/one",)))
BUDGETS = (
    BudgetConfig(metric="queries_per_request", step="GET /list", max=3),
    BudgetConfig(metric="queries_per_request", step="GET /list", worse_max=0.5),
    BudgetConfig(metric="queries_per_request", step="GET /one", worse_max=0),
    BudgetConfig(metric="queries_per_request", max=20),
)


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres_debian("shared_preload_libraries = 'pg_stat_statements'") as server:
        with psycopg.connect(server.admin, autocommit=True) as admin:
            admin.execute("create extension pg_stat_statements")
            admin.execute("create role looks login password 'looks'")
        yield server


@contextmanager
def state(server: Postgres, queries: int, reference: str = "env:PERFLOOP_TEST_DSN") -> Iterator[Meter]:
    """A running service that sends so many queries for a list."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", SERVICE, str(port), server.admin, str(queries)])
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                fetch(url + "/one")
                break
            except PerfloopError:
                time.sleep(0.05)
        config = Config(target=TargetConfig(url=url, environment=Environment.SANDBOX, postgres=reference))
        yield Meter(config, discover(config, Path.cwd()), STEPS, (), time.monotonic() + 600)
    finally:
        process.kill()
        process.wait()


def of(old: Meter, new: Meter) -> Queries:
    work = counted(BUDGETS, old, new, Path.cwd())
    while True:
        try:
            next(work)
        except StopIteration as stop:
            return stop.value


def test_one_query_for_each_row_breaks_its_budgets_and_no_other(database: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFLOOP_TEST_DSN", database.dsn("looks", "looks"))
    with ExitStack() as stack:
        old, new = (stack.enter_context(state(database, queries)) for queries in (2, 11))
        found = of(old, new)
        assert not found.why
        assert found.by_step["GET /list"] == ((2.0, 2.0), (11.0, 11.0))
        assert found.by_step["GET /one"] == ((1.0, 1.0), (1.0, 1.0))
        assert found.by_step[""] == ((1.5, 1.5), (6.0, 6.0))
        checks = check_budgets(BUDGETS, [], Question(), found)
        assert [check.ok for check in checks] == [False, False, True, True]
        assert checks[0].measured == "11 (2 before)"


def test_what_cannot_be_counted_is_no_pass(database: Postgres) -> None:
    with state(database, 1, "") as one:
        found = of(one, one)
    assert "neither target.postgres" in found.why
    assert {check.ok for check in check_budgets(BUDGETS, [], Question(), found)} == {None}


def test_statements_of_mariadb_are_counted(mariadb_server: MariaDb) -> None:
    mariadb_server.run("create user counter@'%' identified by 'pw'")
    with statements_mysql(f"mysql://counter:pw@127.0.0.1:{mariadb_server.port}/") as count:
        first = count()
        own = count() - first
        before = count()
        mariadb_server.run("select 1; select 2; select 3;")
        assert count() - before - own >= 3
