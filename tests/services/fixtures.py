"""Fixtures of the same servers, one for the whole test run each; a test that changes settings starts its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services import MariaDb, Postgres, Server, mariadb, memcached, nginx, redis_server
from services import postgres as postgres_server


@pytest.fixture(scope="session")
def mariadb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDb]:
    """MariaDB with an empty database ``shop``; ``mariadb_server.run(sql)`` is root."""
    with mariadb(tmp_path_factory.mktemp("mariadb")) as server:
        yield server


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An empty Redis."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def memcached_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An empty Memcached."""
    with memcached(tmp_path_factory.mktemp("memcached")) as server:
        yield server


@pytest.fixture(scope="session")
def nginx_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An nginx that answers every path with ``hello``."""
    with nginx(tmp_path_factory.mktemp("nginx")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """An embedded PostgreSQL with nothing but the database ``postgres``."""
    with postgres_server() as server:
        yield server
