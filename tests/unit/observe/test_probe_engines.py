"""The probes of other engines against real servers: what they see under a known load, and what never leaves them."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from perfloop.diagnose.rules.cache import memcached_health, redis_health
from perfloop.diagnose.rules.database import mysql_health
from perfloop.errors import CannotMeasure
from perfloop.model.evidence import Evidence, Unavailable
from perfloop.model.target import Environment, Peer, PeerKind, Target
from perfloop.observe.base import Access, Nothing, sort_parts
from perfloop.observe.probes import memcached, mysql, redis
from services import MariaDb, Server

TARGET = Target(name="t", url="http://127.0.0.1:1", host="127.0.0.1", port=1, local=True, environment=Environment.SANDBOX)


def evidence_of(probe: Any, session: Any) -> Evidence:
    try:
        return sort_parts([(probe.ID, session.finish())], 1.0).into(Evidence(target=TARGET))
    finally:
        session.close()


def test_redis_commands_big_keys_and_slow_log(redis: Server) -> None:
    import redis as client_library

    from perfloop.observe.probes import redis as probe

    client = client_library.Redis(host=redis.host, port=redis.port)
    client.hset("profile:ann@example.org:4711", mapping={f"f{n}": "x" * 50 for n in range(20_000)})
    client.config_set("slowlog-log-slower-than", 100)
    session: Any = probe.start(TARGET, Access(redis_dsn=f"redis://{redis.host}:{redis.port}/0"))
    session.begin()
    for _ in range(3):
        client.hgetall("profile:ann@example.org:4711")
        client.get("absent")
    evidence = evidence_of(probe, session)
    seen = evidence.redis[0]
    calls = {load.name: load.calls for load in seen.commands}
    assert (calls["hgetall"], calls["get"], seen.delta["keyspace_misses"]) == (3, 3, 3)
    assert seen.big_keys[0].elements == 20_000
    assert any(entry.text.startswith("HGETALL profile:") for entry in seen.slow)
    assert "ann@" not in evidence.model_dump_json()
    assert redis_health.diagnose(evidence, {"slow_ms": 0.5}).findings[0].rule == "redis-slow-command"
    client.flushall()
    client.config_set("slowlog-log-slower-than", 10_000)


def test_mariadb_scans_locks_and_needless_indexes(mariadb_server: MariaDb) -> None:
    import pymysql

    mariadb_server.run(
        "create table item (id int primary key, kind int, name varchar(20), note varchar(20), key one (kind), key two (kind, name)); insert into item select seq, seq % 9, 'secret', 'n' from seq_1_to_5000;"
        "create user if not exists look identified by 'geheim'; grant process on *.* to look; grant select on shop.* to look; grant all on shop.* to app identified by 'geheim'",
        "shop",
    )

    def connect() -> Any:
        return pymysql.connect(host=mariadb_server.host, port=mariadb_server.port, user="app", password="geheim", database="shop", autocommit=False)

    holder, waiter = connect(), connect()
    session: Any = mysql.start(TARGET, Access(mysql_dsn=f"mysql://look:geheim@{mariadb_server.host}:{mariadb_server.port}/shop"))
    session.begin()
    with holder.cursor() as cursor:
        cursor.execute("select * from item where id + 0 > 4990")
        cursor.execute("update item set kind = kind where id = 7")
    waiter.cursor().execute("set innodb_lock_wait_timeout = 1")
    import threading

    thread = threading.Thread(target=lambda: _update(waiter))
    thread.start()
    until = time.monotonic() + 5
    while not session._locked and time.monotonic() < until:
        session.sample()
        time.sleep(0.05)
    holder.rollback()
    thread.join()
    evidence = evidence_of(mysql, session)
    seen = evidence.mysql[0]
    assert seen.mariadb
    assert seen.status["handler_read_rnd_next"] >= 5000
    assert [(index.table, index.name, index.covered_by) for index in seen.redundant] == [("shop.item", "one", "two")]
    assert (seen.locks[0].table, seen.locks[0].blocking) == ("shop.item", "(idle in its transaction)")
    assert "secret" not in evidence.model_dump_json()
    assert mysql_health.diagnose(evidence, {}).findings[0].rule == "mysql-row-locks"
    holder.close()
    waiter.close()
    mariadb_server.run("drop table item", "shop")


def _update(connection: Any) -> None:
    import contextlib

    import pymysql

    with contextlib.suppress(pymysql.MySQLError), connection.cursor() as cursor:
        cursor.execute("update item set kind = kind where id = 7")
    connection.rollback()


def test_memcached_misses(memcached_server: Server) -> None:
    address = f"{memcached_server.host}:{memcached_server.port}"
    session: Any = memcached.start(TARGET, Access(memcached=address))
    session.begin()
    with socket.create_connection((memcached_server.host, memcached_server.port)) as client:
        for number in range(300):
            client.sendall(f"get absent{number}\r\n".encode())
            assert client.recv(100) == b"END\r\n"
    evidence = evidence_of(memcached, session)
    assert evidence.memcached[0].delta["get_misses"] == 300
    assert [finding.rule for finding in memcached_health.diagnose(evidence, {}).findings] == ["memcached-misses"]


@pytest.mark.parametrize(
    ("probe", "access"),
    [
        (redis, {"redis_dsn": "redis://:geheim@127.0.0.1:1/0"}),
        (mysql, {"mysql_dsn": "mysql://u:geheim@127.0.0.1:1/x"}),
        (memcached, {"memcached": "127.0.0.1:1"}),
    ],
)
def test_a_server_that_is_not_there_is_said_without_its_password(probe: Any, access: dict[str, str]) -> None:
    assert isinstance(probe.start(TARGET, Access()), Nothing)  # not talked to: nothing is missing
    peers = tuple(Peer(kind=kind, host="127.0.0.1", port=1) for kind in PeerKind)
    assert isinstance(probe.start(TARGET.with_(peers=peers), Access()), Unavailable)
    with pytest.raises(CannotMeasure) as error:
        probe.start(TARGET, Access(**access))
    assert "geheim" not in error.value.render()
