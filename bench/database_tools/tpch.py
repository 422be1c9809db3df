"""TPC-H at scale factor 0.05 in a server of the bench: rows by ``tpchgen-cli`` in a private environment, primary keys, no other index."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import psycopg

from bench.database_tools.server import Server

SCALE = 0.05
QUERIES = Path(__file__).with_name("tpch_queries.sql")
#: as in the papers on index selection, which leave these out
LEFT_OUT = (2, 17, 20)
SCHEMA = """
create table region (r_regionkey int primary key, r_name char(25) not null, r_comment varchar(152));
create table nation (n_nationkey int primary key, n_name char(25) not null, n_regionkey int not null, n_comment varchar(152));
create table supplier (s_suppkey int primary key, s_name char(25) not null, s_address varchar(40) not null, s_nationkey int not null, s_phone char(15) not null, s_acctbal numeric(15,2) not null, s_comment varchar(101) not null);
create table part (p_partkey int primary key, p_name varchar(55) not null, p_mfgr char(25) not null, p_brand char(10) not null, p_type varchar(25) not null, p_size int not null, p_container char(10) not null, p_retailprice numeric(15,2) not null, p_comment varchar(23) not null);
create table partsupp (ps_partkey int not null, ps_suppkey int not null, ps_availqty int not null, ps_supplycost numeric(15,2) not null, ps_comment varchar(199) not null, primary key (ps_partkey, ps_suppkey));
create table customer (c_custkey int primary key, c_name varchar(25) not null, c_address varchar(40) not null, c_nationkey int not null, c_phone char(15) not null, c_acctbal numeric(15,2) not null, c_mktsegment char(10) not null, c_comment varchar(117) not null);
create table orders (o_orderkey int primary key, o_custkey int not null, o_orderstatus char(1) not null, o_totalprice numeric(15,2) not null, o_orderdate date not null, o_orderpriority char(15) not null, o_clerk char(15) not null, o_shippriority int not null, o_comment varchar(79) not null);
create table lineitem (l_orderkey int not null, l_partkey int not null, l_suppkey int not null, l_linenumber int not null, l_quantity numeric(15,2) not null, l_extendedprice numeric(15,2) not null, l_discount numeric(15,2) not null, l_tax numeric(15,2) not null, l_returnflag char(1) not null, l_linestatus char(1) not null, l_shipdate date not null, l_commitdate date not null, l_receiptdate date not null, l_shipinstruct char(25) not null, l_shipmode char(10) not null, l_comment varchar(44) not null, primary key (l_orderkey, l_linenumber));
"""
TABLES = ("region", "nation", "supplier", "part", "partsupp", "customer", "orders", "lineitem")


def queries() -> dict[int, str]:
    """Number → text."""
    parts = re.split(r"^-- Q(\d+)\n", QUERIES.read_text(), flags=re.M)
    return {int(number): text.strip().rstrip(";") for number, text in zip(parts[1::2], parts[2::2], strict=True)}


def ensure(server: Server, work: Path, scale: float = SCALE) -> str:
    """The name of the database with TPC-H in it, loaded where it is not yet there, with a role ``reader`` that has SELECT only."""
    name = f"tpch_{scale:g}".replace(".", "_")
    with server.connect() as connection:
        if connection.execute("select 1 from pg_database where datname = %s", (name,)).fetchone():
            return name
        if not connection.execute("select 1 from pg_roles where rolname = 'reader'").fetchone():
            connection.execute("create role reader login")
        connection.execute(f"drop database if exists {name}_loading".encode())  # of an interrupted run
        connection.execute(f"create database {name}_loading".encode())
    folder = _rows(work, scale)
    with server.connect(database=f"{name}_loading") as connection:
        connection.execute(SCHEMA.encode())
        for table in TABLES:
            with (folder / f"{table}.csv").open("rb") as file, connection.cursor().copy(f"copy {table} from stdin (format csv, header)".encode()) as copy:
                while block := file.read(1 << 20):
                    copy.write(block)
        connection.execute(b"grant select on all tables in schema public to reader")
        connection.execute(b"vacuum analyze")
    with server.connect() as connection:
        connection.execute(f"alter database {name}_loading rename to {name}".encode())
    return name


def _rows(work: Path, scale: float) -> Path:
    folder = work / f"tpch-{scale:g}"
    if not (folder / "lineitem.csv").exists():
        environment = work / "tpchgen"
        if not (environment / "bin/tpchgen-cli").exists():
            subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
            subprocess.run([environment / "bin/pip", "install", "-q", "--disable-pip-version-check", "tpchgen-cli==4.0.0"], check=True)
        subprocess.run([environment / "bin/tpchgen-cli", "csv", "-s", str(scale), "--output-dir", str(folder)], check=True, capture_output=True)
    return folder


def without_indexes(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Drop what an interrupted run may have left: every index that is no primary key."""
    for (name,) in connection.execute(
        "select indexrelid::regclass::text from pg_index i join pg_class c on c.oid = i.indrelid where c.relnamespace = 'public'::regnamespace and not indisprimary"
    ).fetchall():
        connection.execute(f"drop index {name}".encode())
