"""``perfloop load`` on real databases and caches, by the api: logins, what is refused, and an answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from perfloop import api
from perfloop.errors import CannotMeasure, UsageError
from perfloop.loop import load_kinds
from perfloop.model.requests import CheckRequest, LoadRequest
from perfloop.model.result import RunResult
from services import MariaDb, Postgres, Server

SQL = '[[journeys]]\nsql = "select * from things where k = {1..100000} and v <> \'secret\'"\n[[journeys]]\nname = "all"\nsql = "select count(*) from things"\n'


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_kinds, "LOAD_S", 1.5)
    monkeypatch.setattr("perfloop.load.run.generator_ok", lambda *_: True)


@pytest.fixture(scope="module")
def things(postgres: Postgres) -> Iterator[str]:
    with psycopg.connect(postgres.admin, autocommit=True) as admin:
        admin.execute("create table things as select k, 'v' || k as v from generate_series(1, 100000) k; create index on things (k); analyze things")
        admin.execute("create role lo login password 'geheim'; grant select on things to lo; create role boss superuser login password 'geheim'")
    yield f"postgresql://127.0.0.1:{postgres.port}/postgres"
    with psycopg.connect(postgres.admin, autocommit=True) as admin:
        admin.execute("drop table things; drop owned by lo; drop role lo; drop role boss")


def configure(project: Path, more: str, target: str = "") -> None:
    (project / "perfloop.toml").write_text(f'[target]\nenvironment = "sandbox"\n{target}\n[slo]\nlatency_p95_ms = 2000\n{more}')


def run(**words) -> RunResult:
    events = api.load(LoadRequest(no_input=True, **words))
    while True:
        try:
            next(events)
        except StopIteration as stop:
            return stop.value


def test_postgresql_with_a_login_by_reference(things: str, postgres: Postgres, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(project, SQL, 'postgres = "env:THINGS"')
    monkeypatch.setenv("THINGS", postgres.dsn("lo", "geheim"))
    result = run(url=things, rate_per_s=40)
    assert result.load_test.ok is True, result.load_test
    assert [step.name for step in result.before.steps] == ["SELECT * FROM things WHERE k = ? AND v <> ?", "all"]
    assert result.target.processes[0].name.startswith("postgres")
    assert result.before.cpu_seconds_per_request > 0
    assert any("SELECT with no WHERE on things, a table of 100,000 rows" in note for note in result.notes)
    stored = "".join(path.read_text(errors="replace") for path in project.rglob("*") if path.is_file() and path.name != "perfloop.toml")
    assert "geheim" not in stored
    assert result.load_test.repeatable is True


def test_logins_that_are_refused(things: str, postgres: Postgres, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(project, SQL, 'postgres = "env:THINGS"')
    for dsn, error, why in (
        (postgres.dsn("boss", "geheim"), UsageError, "is a superuser"),
        (postgres.dsn("lo", "falsch"), CannotMeasure, "refuses the password"),
        (postgres.dsn("lo", "geheim", "other"), UsageError, "another place"),
    ):
        monkeypatch.setenv("THINGS", dsn)
        with pytest.raises(error) as raised:
            run(url=things, rate_per_s=40)
        assert why in f"{raised.value.what} {raised.value.why}"
        assert "geheim" not in raised.value.render()
    with pytest.raises(UsageError, match="by HTTP"):
        next(api.check(CheckRequest(url=things)))


def test_writes_need_a_sandbox_that_allows_them(things: str, postgres: Postgres, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THINGS", postgres.dsn("boss", "geheim"))
    write = '[[journeys]]\nsql = "update things set v = v where k = {1..1000}"\n'
    configure(project, write, 'postgres = "env:THINGS"\nallow_writes = true')
    result = run(url=things, rate_per_s=40)
    assert result.load_test.ok is True
    assert result.load_test.repeatable is False
    (project / "perfloop.toml").write_text((project / "perfloop.toml").read_text().replace("sandbox", "staging"))
    with pytest.raises(UsageError, match="in a sandbox only"):
        run(url=things, rate_per_s=40)
    configure(project, write, 'postgres = "env:THINGS"')
    with pytest.raises(UsageError, match="UPDATE is a write"):
        run(url=things, rate_per_s=40)


def test_mariadb_and_an_account_that_can_do_harm(mariadb_server: MariaDb, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mariadb_server.run(
        "create or replace user lo@'127.0.0.1' identified by 'geheim'; grant select on shop.* to lo@'127.0.0.1';"
        "create or replace user filer@'127.0.0.1' identified by 'geheim'; grant file on *.* to filer@'127.0.0.1'; grant select on shop.* to filer@'127.0.0.1'"
    )
    configure(project, '[[journeys]]\nsql = "select {1..9} + 1"\n', 'mysql = "env:SHOP"')
    monkeypatch.setenv("SHOP", f"mysql://lo:geheim@127.0.0.1:{mariadb_server.port}/shop")
    url = f"mysql://127.0.0.1:{mariadb_server.port}/shop"
    assert run(url=url, users=2).load_test.ok is True
    monkeypatch.setenv("SHOP", f"mysql://filer:geheim@127.0.0.1:{mariadb_server.port}/shop")
    with pytest.raises(UsageError, match="must not be used"):
        run(url=url, users=2)


def test_redis_and_an_address_without_journeys(redis: Server, project: Path) -> None:
    configure(project, "")
    result = run(url=f"redis://127.0.0.1:{redis.port}/0", users=2)
    assert result.load_test.ok is True
    assert [step.name for step in result.before.steps] == ["PING"]
    configure(project, '[[journeys]]\ncommand = "SET a 1"\n')
    with pytest.raises(UsageError, match="may write"):
        run(url=f"redis://127.0.0.1:{redis.port}/0", users=2)
