"""Taps before the real servers: what was asked is counted by its kind and without its literals, and everything passes unchanged."""

from __future__ import annotations

import datetime
import http.client

import psycopg
import pymysql
import pytest
import redis as redis_client

from perfloop.wire.client import Passed, Tap
from perfloop.wire.groups import Groups, key, path, statement
from perfloop.wire.protocols import PROTOCOLS, Opaque, watcher
from services import MariaDb, Postgres, Server
from services.postgres import postgres_debian


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Postgres:
    with psycopg.connect(postgres.admin, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS tapped")
        connection.execute("CREATE ROLE tapped LOGIN PASSWORD 'secret'")
    return postgres


def dsn_of(tap: Tap) -> str:
    return f"postgresql://tapped:secret@127.0.0.1:{tap.port}/postgres?sslmode=disable&gssencmode=disable"


def counts(groups: dict[str, Passed]) -> dict[str, int]:
    return {label: group.count for label, group in groups.items()}


def test_postgresql_by_statement(database: Postgres) -> None:
    with Tap("127.0.0.1", database.port, protocol="postgresql") as tap:
        with psycopg.connect(dsn_of(tap), autocommit=True, prepare_threshold=None) as connection:
            before = tap.counters().round_trips
            for number in range(7):
                assert connection.execute("SELECT %s::int + 1", (number,)).fetchone() == (number + 1,)
            connection.execute("SELECT 'my secret', 42")
            with pytest.raises(psycopg.errors.DivisionByZero):
                connection.execute("SELECT 1/0")
            assert connection.execute("SELECT repeat('x', 3000000)").fetchone() == ("x" * 3_000_000,)
            rows = connection.execute("SELECT g FROM generate_series(1, %s) g", (5000,)).fetchall()
            assert len(rows) == 5000
        seen = tap.counters()
    assert seen.round_trips - before == 12  # the goodbye is a turn too
    assert seen.opaque == {}
    found = counts(dict(seen.groups))
    assert found["SELECT $1::int + ?"] == 7
    assert found["SELECT ?, ?"] == 1
    assert seen.groups["SELECT ?/?"] == Passed(1, seen.groups["SELECT ?/?"].seconds, 1)
    assert seen.groups["SELECT repeat(?, ?)"].seconds > seen.groups["SELECT ?, ?"].seconds
    assert "secret" not in str(seen.groups)


def test_postgresql_prepared_pipelined_and_in_a_transaction(database: Postgres) -> None:
    with Tap("127.0.0.1", database.port, protocol="postgresql") as tap, psycopg.connect(dsn_of(tap)) as connection:
        for number in range(4):
            connection.execute("SELECT %s::text", (str(number),), prepare=True)
        assert tap.counters().busy == 1  # inside a transaction it belongs to one user
        connection.commit()
        assert tap.counters().busy == 0
        before = tap.counters()
        with connection.pipeline(), connection.cursor() as cursor:
            for number in range(5):
                cursor.execute("SELECT %s::int * 2", (number,))
        connection.rollback()
        after = tap.counters()
    assert counts(dict(after.groups))["SELECT $1::text"] == 4
    assert counts(dict(after.groups))["SELECT $1::int * ?"] == 5
    assert after.round_trips - before.round_trips < 5  # five statements, fewer turns


def test_a_delay_is_not_counted_as_the_servers_time(database: Postgres) -> None:
    with Tap("127.0.0.1", database.port, protocol="postgresql", delay_ms=30) as tap:
        with psycopg.connect(dsn_of(tap), autocommit=True) as connection:
            for _ in range(5):
                connection.execute("SELECT 1")
        seen = tap.counters()
    assert seen.delayed_s >= 0.03 * 5
    assert seen.groups["SELECT ?"].seconds < seen.delayed_s


def test_tls_with_channel_binding_passes_and_is_not_read() -> None:
    certificate, private = _certificate()
    hba = b"local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
    with postgres_debian("ssl = on", files={"server.crt": certificate, "server.key": private, "pg_hba.conf": hba}) as server:
        with psycopg.connect(f"postgresql://postgres@/postgres?host={server.folder}&port={server.port}", autocommit=True) as connection:
            connection.execute("CREATE ROLE bound LOGIN PASSWORD 'secret'")
        with Tap("127.0.0.1", server.port, protocol="postgresql") as tap:
            dsn = f"postgresql://bound:secret@127.0.0.1:{tap.port}/postgres?sslmode=require&channel_binding=require&gssencmode=disable"
            with psycopg.connect(dsn, autocommit=True) as connection:
                before = tap.counters().round_trips
                for _ in range(3):
                    connection.execute("SELECT 1")
                seen = tap.counters()
    assert seen.opaque == {"TLS": 1}
    assert not seen.groups
    assert seen.round_trips - before == 3  # turns are counted, and could be delayed, all the same


def _certificate() -> tuple[bytes, bytes]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key_ = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(name, name, key_.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1))
    form = serialization.PrivateFormat.PKCS8
    return made.sign(key_, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), key_.private_bytes(
        serialization.Encoding.PEM, form, serialization.NoEncryption()
    )


def test_mysql_by_statement(mariadb_server: MariaDb) -> None:
    mariadb_server.run("CREATE OR REPLACE USER tapped@'127.0.0.1' IDENTIFIED BY 'secret'; GRANT ALL ON shop.* TO tapped@'127.0.0.1'")
    with Tap("127.0.0.1", mariadb_server.port, protocol="mysql") as tap:
        connection = pymysql.connect(host="127.0.0.1", port=tap.port, user="tapped", password="secret", database="shop", ssl_disabled=True)
        with connection, connection.cursor() as cursor:
            for number in range(6):
                cursor.execute("SELECT %s + 1, 'my secret', \"another\"", (number,))
                assert cursor.fetchone() == (number + 1, "my secret", "another")
            cursor.execute("SELECT REPEAT('x', 2000000)")
            assert len(cursor.fetchone()[0]) == 2_000_000
            with pytest.raises(pymysql.err.ProgrammingError):
                cursor.execute("SELECT * FROM nowhere WHERE id IN (1, 2, 3)")
            cursor.execute("PREPARE p FROM 'SELECT ? * 2'")
        seen = tap.counters()
    assert seen.opaque == {}
    assert counts(dict(seen.groups))["SELECT ? + ?, ?, ?"] == 6
    assert seen.groups["SELECT * FROM nowhere WHERE id IN (?)"].errors == 1
    assert "secret" not in str(seen.groups)


def test_redis_by_command(redis: Server) -> None:
    with Tap("127.0.0.1", redis.port, protocol="redis") as tap, redis_client.Redis(port=tap.port) as client:
        client.set("agent:1", b"x" * 200_000)
        for number in range(9):
            client.get(f"agent:{number}")
        before = tap.counters().round_trips
        with client.pipeline(transaction=False) as pipe:
            for number in range(20):
                pipe.hset("secret-token", str(number), "v")
            pipe.lrange("list:a", 0, -1)
            pipe.execute()
        assert client.hgetall("secret-token")
        with pytest.raises(redis_client.ResponseError):
            client.incr("agent:1")
        seen = tap.counters()
    found = counts(dict(seen.groups))
    assert (found["GET agent:*"], found["HSET *"], found["LRANGE list:*"], found["HGETALL *"]) == (9, 20, 1, 1)
    assert seen.groups["INCRBY agent:*"].errors == 1
    assert seen.round_trips - before == 3  # the pipeline is one turn
    assert seen.opaque == {}
    assert "token" not in str(seen.groups)


def test_http_by_method_and_path(nginx_server: Server) -> None:
    with Tap("127.0.0.1", nginx_server.port, protocol="http") as tap:
        connection = http.client.HTTPConnection("127.0.0.1", tap.port, timeout=10)
        for number in range(4):
            connection.request("GET", f"/people/{number}/orders?token=abc&page={number}")
            assert connection.getresponse().read()
        connection.request("HEAD", "/people/1")
        connection.getresponse().read()
        connection.request("POST", "/people", body=b"x" * 300_000)
        connection.getresponse().read()
        connection.close()
        seen = tap.counters()
    found = counts(dict(seen.groups))
    assert found == {"GET /people/{id}/orders?page&token": 4, "HEAD /people/{id}": 1, "POST /people": 1}
    assert seen.round_trips == 6


@pytest.mark.parametrize("protocol", PROTOCOLS[1:])
def test_what_is_no_such_protocol_passes(protocol: str, nginx_server: Server) -> None:
    """HTTP through every tap but its own, TLS through all."""
    connection = watcher(protocol, Groups())
    with pytest.raises(Opaque, match="TLS") if protocol != "mysql" else pytest.raises((Opaque, ValueError, LookupError)):
        connection.client(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(70_000), 0.0)
        connection.client(bytes([4, 0, 0, 0]) * 10, 0.0)
    with Tap("127.0.0.1", nginx_server.port, protocol=protocol) as tap:
        client = http.client.HTTPConnection("127.0.0.1", tap.port, timeout=10)
        client.request("GET", "/")
        assert client.getresponse().status == 200


def test_literals_never_become_labels() -> None:
    assert statement("SELECT a1, $1 FROM t WHERE x = 'it''s me' -- ok\n AND y IN (1, 2.5e3, 'z') /* c */ LIMIT 10") == (
        "SELECT a1, $1 FROM t WHERE x = ? AND y IN (?) LIMIT ?"
    )
    assert statement("SELECT $body$it's$body$, E'a\\'b', 'cut off") == "SELECT ?, ?, ?"
    assert statement('SELECT "name" FROM t') == 'SELECT "name" FROM t'
    assert statement('SELECT "me@x.org"', double_quotes=True) == "SELECT ?"
    assert path("/a/123/b/4f3c2a1b-aaaa-bbbb-cccc-000000000000?q=me@x.org&q=2&zip=1") == "/a/{id}/b/{id}?q&zip"
    assert path("/people/anna@x.org") == "/people/{id}"
    assert [key(name) for name in ("user:7", "board", "7:x", "a b:1")] == ["user:*", "*", "*", "*"]


def test_labels_have_a_limit() -> None:
    groups = Groups()
    for number in range(700):
        groups.add(f"label {number}", 0.001)
    assert len(groups.report()) == 501
    assert groups.report()["(others)"]["count"] == 200
