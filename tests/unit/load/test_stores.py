"""Load on real databases and caches: journeys, bounds, error classes, and what is refused before anything is sent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from perfloop.errors import CannotMeasure, UsageError
from perfloop.load.engines import database
from perfloop.load.run import run_window
from perfloop.model.journey import Check, Extract, Journey, Script, Step, Workload
from perfloop.model.run import Window
from services import MariaDb, Postgres, Server, redis_server

SCRIPT = """
from perfloop.load.script import journey

@journey()
async def look(user):
    found = await user.sql("select k, v from shop.items where k = %s", user.iteration % 10, name="one item")
    user.check("it is there", found.rows[0][1] == f"item {user.iteration % 10}")
    user.check("by name", found.json()[0]["k"] == user.iteration % 10)
    await user.sql("select count(*) from shop.items")
"""


def sent(workload: Workload) -> Window:
    window = rest(run_window(workload, "test", database))
    for step in window.steps:
        assert step.sent == step.ok + sum(step.errors.values())
        assert step.ok == sum(step.latency.counts)
    return window


def rest(load) -> Window:
    while True:
        try:
            next(load)
        except StopIteration as stop:
            return stop.value


def words(url: str, dsn: str, **more: object) -> dict[str, object]:
    return {"base_url": url, "dsn": dsn, "rate_per_s": 60, "duration_s": 0.7, "arrival": "constant", "timeout_s": 2.0, "connections_max": 4, **more}


@pytest.fixture(scope="module")
def pg(postgres: Postgres) -> Iterator[tuple[str, str]]:
    """Address and DSN of a role that only reads, and ten items."""
    with psycopg.connect(postgres.admin, autocommit=True) as admin:
        admin.execute("create schema shop; create table shop.items as select k, 'item ' || k as v from generate_series(0, 9) k")
        admin.execute("create role loader login password 'geheim'; grant usage on schema shop to loader; grant all on shop.items to loader")
    yield f"postgresql://127.0.0.1:{postgres.port}/postgres", postgres.dsn("loader", "geheim")
    with psycopg.connect(postgres.admin, autocommit=True) as admin:
        admin.execute("drop schema shop cascade; drop owned by loader; drop role loader")


@pytest.fixture(scope="module")
def my(mariadb_server: MariaDb) -> tuple[str, str]:
    mariadb_server.run(
        "create table if not exists items (k int primary key, v text); replace into items select seq, concat('item ', seq) from seq_0_to_9;"
        "create or replace user loader@'127.0.0.1' identified by 'geheim'; grant select, insert on shop.* to loader@'127.0.0.1'",
        "shop",
    )
    return f"mariadb://127.0.0.1:{mariadb_server.port}/shop", f"mariadb://loader:geheim@127.0.0.1:{mariadb_server.port}/shop"


STEPS = (
    Step(name="one", sql="select k, v from shop.items where k = {0..9}", weight=3, checks=(Check(of="json", path="0.v", contains="item"),)),
    Step(name="slow", sql="select 1, %s(0.02)"),
)


def both(sleep: str) -> tuple[Step, ...]:
    return (STEPS[0], STEPS[1].with_(sql=STEPS[1].sql.replace("%s", sleep)))


def test_open_load_on_postgresql(pg: tuple[str, str]) -> None:
    window = sent(Workload(steps=both("pg_sleep"), **words(*pg)))
    one, slow = window.steps
    assert one.sent + slow.sent == 42
    assert one.errors == slow.errors == {}
    assert (
        min(i for i, n in zip(slow.latency.buckets, slow.latency.counts, strict=True) if n) > max(one.latency.buckets) or slow.latency.sum_s >= 0.02 * slow.ok
    )
    assert [check.failed for check in window.checks] == [0]
    assert window.lateness.counts


def test_open_load_on_mariadb(my: tuple[str, str]) -> None:
    window = sent(Workload(steps=both("sleep"), **words(*my)))
    assert sum(step.ok for step in window.steps) == 42
    assert window.steps[1].latency.sum_s >= 0.02 * window.steps[1].ok


@pytest.mark.parametrize("server", ["pg", "my"])
def test_closed_users_of_a_script_and_of_declared_journeys(server: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url, dsn = request.getfixturevalue(server)
    file = tmp_path / "journeys.py"
    file.write_text(SCRIPT if server == "pg" else SCRIPT.replace("shop.items", "items"))
    window = sent(Workload(script=Script(file=str(file)), **words(url, dsn, users=3, rate_per_s=0)))
    by_name = {step.name: step for step in window.steps}
    assert by_name["one item"].ok > 10, window
    assert set(by_name) == {"one item", "SELECT COUNT(*) FROM shop.items" if server == "pg" else "SELECT COUNT(*) FROM items"}
    assert {check.failed for check in window.checks} == {0}
    items = "shop.items"
    pair = Journey(
        name="pair",
        steps=(
            Step(name="first", sql=f"select k from {items} where v = 'item 3'", extracts=(Extract(name="key", of="json", path="0.k"),)),
            Step(name="second", sql=f"select v from {items} where k = ${{key}}", checks=(Check(of="json", path="0.v", equals="item 3"),), think_s=(0.01, 0.02)),
        ),
    )
    window = sent(Workload(journeys=(pair,), **words(url, dsn, users=2, rate_per_s=0)))
    assert window.journeys[0].ok > 3
    assert window.journeys[0].errors == {}


def test_what_the_server_refuses_is_an_error_of_its_own_and_a_slow_statement_a_timeout(pg: tuple[str, str], my: tuple[str, str]) -> None:
    for (url, dsn), sleep, code in ((pg, "pg_sleep", "42P01"), (my, "sleep", "1146")):
        steps = (Step(name="missing", sql="select * from shop.nothing where k = 1"), Step(name="stuck", sql=f"select {sleep}(1)"))
        window = sent(Workload(steps=steps, **words(url, dsn, timeout_s=0.3, rate_per_s=20, error_rate_stop=1.0)))
        missing, stuck = window.steps
        assert set(missing.errors) == {"server_error"}
        assert set(stuck.errors) == {"timeout"}
        assert code in window.first_errors["server_error"]


def test_more_users_than_the_server_takes_and_a_server_that_is_not_there(pg: tuple[str, str], free_port: int) -> None:
    url, dsn = pg
    window = sent(Workload(steps=(Step(name="one", sql="select 1"),), **words(url, dsn, users=150, rate_per_s=0, error_rate_stop=1.0, duration_s=1.0)))
    assert set(window.steps[0].errors) == {"connect"}
    assert window.steps[0].ok > 0
    window = sent(Workload(steps=(Step(name="one", sql="select 1"),), **words(url, dsn.replace(url.split(":")[2].split("/")[0], str(free_port)))))
    assert set(window.steps[0].errors) == {"connect"}
    assert "geheim" not in str(window)


def test_a_server_that_loses_its_sessions_is_a_reset(pg: tuple[str, str], postgres: Postgres) -> None:
    load = run_window(Workload(steps=(Step(name="stuck", sql="select pg_sleep(1)"),), **words(*pg, duration_s=1.5, rate_per_s=4)), "test", database)
    next(load)
    with psycopg.connect(postgres.admin, autocommit=True) as admin:
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'loader'")
    assert rest(load).steps[0].errors["reset"] > 0


def test_the_database_itself_refuses_writes_that_a_guard_let_through(
    pg: tuple[str, str], my: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "blind.py").write_text(
        "import perfloop.load.engines.stores.world as world\nworld.check_statement = lambda *_: None\n"
        "async def write(user):\n    await user.sql('insert into shop.items values (99, %s)', 'x', name='write')\n"
    )
    for url, dsn in (pg, my):
        window = sent(Workload(script=Script(file=str(tmp_path / "blind.py")), **words(url, dsn, rate_per_s=10)))
        assert set(window.steps[0].errors) == {"server_error"}, window
        assert "read-only" in window.first_errors["server_error"].lower() or "read only" in window.first_errors["server_error"].lower()


def test_writes_in_a_sandbox_that_allows_them(pg: tuple[str, str], postgres: Postgres) -> None:
    step = Step(name="write", sql="update shop.items set v = v where k = {0..9}")
    with pytest.raises(UsageError, match="UPDATE is a write"):
        sent(Workload(steps=(step,), **words(*pg)))
    window = sent(Workload(steps=(step,), **words(*pg, writes_allowed=True)))
    assert window.steps[0].ok == 42


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("drop table shop.items", "DROP"),
        ("select 1; select 2", "one statement"),
        ("select '${name}'", "in quotes"),
        ("with x as (delete from shop.items returning *) select * from x", "DELETE"),
        ("select pg_read_file('/etc/passwd')", "pg_read_file"),
        ("select {9..1}", "is empty"),
    ],
)
def test_statements_that_are_refused_before_anything_is_sent(sql: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        sent(Workload(steps=(Step(name="x", sql=sql),), **words("postgresql://127.0.0.1:1/x", "postgresql://127.0.0.1:1/x")))


def test_what_a_script_asks_passes_the_guard_too(pg: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("async def bad(user):\n    await user.sql('delete from shop.items')\n")
    window = sent(Workload(script=Script(file=str(tmp_path / "bad.py")), **words(*pg)))
    assert window.journeys[0].errors == {"script": window.journeys[0].started}
    assert "DELETE is a write" in window.first_errors["script"]
    assert not window.steps


@pytest.fixture(scope="module")
def keys(redis: Server) -> tuple[str, str]:
    import redis as client

    with client.Redis(port=redis.port) as connection:
        connection.mset({f"load:{number}": f"value {number}" for number in range(10)})
        connection.hset("load:hash", mapping={"a": "1"})
    return f"redis://127.0.0.1:{redis.port}/0", f"redis://127.0.0.1:{redis.port}/0"


def test_open_and_closed_load_on_redis(keys: tuple[str, str], tmp_path: Path) -> None:
    steps = (
        Step(name="get", command="GET load:{0..9}", checks=(Check(of="body", contains="value"),)),
        Step(name="hash", command="HGETALL load:hash", checks=(Check(of="json", path="a", equals="1"),)),
        Step(name="wrong", command="LRANGE load:hash 0 1"),
    )
    window = sent(Workload(steps=steps, **words(*keys, error_rate_stop=1.0)))
    get, hashed, wrong = window.steps
    assert get.ok + hashed.ok + wrong.sent == 42
    assert set(wrong.errors) == {"server_error"}
    assert "WRONGTYPE" in window.first_errors["server_error"]
    assert get.bytes_in == 7 * get.ok
    assert get.bytes_out == len(b"*2\r\n$3\r\nGET\r\n$6\r\nload:1\r\n") * get.ok
    (tmp_path / "r.py").write_text(
        "async def look(user):\n    said = await user.redis('GET', f'load:{user.iteration % 10}')\n    user.check('it', said.value == f'value {user.iteration % 10}'.encode())\n"
    )
    window = sent(Workload(script=Script(file=str(tmp_path / "r.py")), **words(*keys, users=3, rate_per_s=0)))
    assert window.steps[0].name == "GET"
    assert window.steps[0].ok > 20
    assert window.checks[0].failed == 0


@pytest.mark.parametrize("command", ["SET a 1", "FLUSHALL", "CONFIG GET *", "BLPOP a 1", "EVAL 'return 1' 0", "SHUTDOWN", "NOSUCH a"])
def test_commands_that_are_refused(command: str, keys: tuple[str, str]) -> None:
    with pytest.raises(CannotMeasure, match=r"may write|is refused|does not know"):
        sent(Workload(steps=(Step(name="x", command=command),), **words(*keys)))


def test_redis_that_stands_still_is_a_timeout_and_one_that_goes_is_a_reset(tmp_path: Path) -> None:
    import os
    import signal

    with redis_server(tmp_path) as server:
        address = f"redis://127.0.0.1:{server.port}/0"
        load = run_window(Workload(steps=(Step(name="ping", command="PING"),), **words(address, address, duration_s=2.2, timeout_s=0.4)), "test", database)
        next(load)
        os.kill(server.pid, signal.SIGSTOP)
        time.sleep(0.8)
        os.kill(server.pid, signal.SIGCONT)
        step = rest(load).steps[0]
        assert step.errors["timeout"] > 0
        assert set(step.errors) == {"timeout"}
        assert step.sent == step.ok + sum(step.errors.values()) == 132
