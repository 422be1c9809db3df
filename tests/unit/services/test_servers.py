"""The servers that other tests rely on do answer, and are gone afterwards."""

from __future__ import annotations

import socket
import urllib.request

import psutil
import psycopg
import pytest

from services import nginx, pgbouncer, redis_server


def ask(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(sent)
        return connection.recv(4096)


def test_they_answer(mariadb_server, redis, memcached_server, nginx_server):
    mariadb_server.run("create table if not exists t (a int); insert into t values (7)", "shop")
    assert mariadb_server.run("select a from t", "shop") == "7\n"
    assert ask(redis.port, b"PING\r\n") == b"+PONG\r\n"
    assert ask(memcached_server.port, b"version\r\n").startswith(b"VERSION 1.")
    with urllib.request.urlopen(f"http://127.0.0.1:{nginx_server.port}/x", timeout=5) as response:
        assert response.read() == b"hello\n"


def test_they_end_with_their_block(tmp_path):
    with redis_server(tmp_path, "--requirepass", "geheim") as redis, nginx(tmp_path, "location / { return 204; }") as web:
        assert b"NOAUTH" in ask(redis.port, b"PING\r\n")
        pids = [redis.pid, web.pid, *(child.pid for child in psutil.Process(web.pid).children())]
        assert len(pids) == 3
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_a_server_that_cannot_start_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="unknown directive"), nginx(tmp_path, "nonsense;"):
        pass


def test_a_pooler_before_postgres(tmp_path, postgres):
    with psycopg.connect(postgres.admin, autocommit=True) as connection:
        connection.execute("create role pooled login password 'pw'")
    with (
        pgbouncer(tmp_path, f"host=127.0.0.1 port={postgres.port}", {"pooled": "pw"}) as pooler,
        psycopg.connect(f"postgresql://pooled:pw@127.0.0.1:{pooler.port}/postgres") as connection,
    ):
        assert connection.execute("select 42").fetchone() == (42,)
