"""A real PostgreSQL for the tests of this folder: embedded, on a Unix socket and a loopback port, thrown away afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from services import postgres


@dataclass(frozen=True)
class Database:
    admin: str
    reader: str
    port: int


_SETUP = """
create role app login password 'app-pw'; create role reader login password 'geheim'; create role monitor login password 'geheim'; grant pg_monitor to monitor;
create role files login password 'geheim'; create role nested; grant pg_read_server_files to nested; grant nested to files;
create table customers (id int primary key, email text not null, name text);
create table orders (id int primary key, customer_id int not null references customers, status text, created_at timestamptz default now(), note text);
create index orders_status_created on orders (status, created_at desc);
create unique index customers_lower_email on customers (lower(email)) where name is not null;
insert into customers select i, 'c' || i || '@example.org', 'n' || i from generate_series(1, 200) i;
insert into orders select i, 1 + i % 200, 'open', now(), repeat('x', 50) from generate_series(1, 5000) i;
analyze customers; analyze orders; create schema other; create table other.orders (id int); create sequence s;
grant usage on schema public to reader, app; grant select on all tables in schema public to reader;
"""


@pytest.fixture(scope="session")
def database() -> Iterator[Database]:
    with postgres("compute_query_id = on", "autovacuum = off") as server:
        with psycopg.connect(server.admin, autocommit=True) as connection:
            connection.execute(_SETUP)
        yield Database(server.admin, server.dsn("reader", "geheim"), server.port)


@pytest.fixture
def reader(database: Database) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    from perfloop.sql.connect import connect_readonly

    with connect_readonly(database.reader) as connection:
        yield connection
