"""The twin against its target on TPC-H: plans, costs, and how long it takes to build."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import psycopg

from bench.database_tools import tpch
from bench.database_tools.options import Options
from bench.database_tools.server import Server
from bench.table import Row
from perfloop.twin import binaries
from perfloop.twin.build import Twin, explain
from perfloop.twin.snapshot import take
from perfloop.twin.whatif import shape

COST_RELATIVE = 1e-4
BUILDS = 5
MANY_TABLES = 1_000


def rows(options: Options) -> list[Row]:
    """All rows of the group."""
    here = sorted(binaries.installed())
    found: list[Row] = []
    for major in here:
        if major not in (15, 16, 18):
            continue
        with Server(options.work, "pg", major) as server:
            name = tpch.ensure(server, options.work)
            found += [_same(server, name, user, None) for user in (("postgres", "reader") if major == 15 else ("reader",))]
            if major == 15:
                found += [_same(server, name, "reader", other) for other in here if other > 15]
                found.append(_build_time(server, name))
                found.append(_many_tables(server))
    return found


def _same(server: Server, name: str, user: str, major: int | None) -> Row:
    """How many of the 22 queries get the same plan shape and cost."""
    equal = shapes = 0
    worst = 0.0
    with server.connect(user, name) as connection:
        snapshot = take(connection, tpch.TABLES)
        with Twin(snapshot, major=major) as twin:
            for text in tpch.queries().values():
                real, ours = explain(connection, text), twin.explain(text)
                off = abs(ours["Total Cost"] - real["Total Cost"]) / real["Total Cost"]
                worst = max(worst, off)
                shapes += shape(ours) == shape(real)
                equal += shape(ours) == shape(real) and off <= COST_RELATIVE
    role = "a role with SELECT only" if user == "reader" else "superuser"
    needed = 22 if major is None else 19
    return Row(
        f"twin on TPC-H, PostgreSQL {server.major} planned on {major or server.major}, {role}: same plan and cost (1e-4)",
        equal,
        "of 22",
        f">= {needed}",
        equal >= needed,
        why=f"{shapes} of 22 of the same shape, worst cost difference {worst:.2%}",
    )


def _build_time(server: Server, name: str) -> Row:
    whole, started = [], []
    for _ in range(BUILDS):
        with server.connect("reader", name) as connection:
            seconds, start = _built(connection, tpch.TABLES)
        whole.append(seconds)
        started.append(start)
    value = statistics.median(whole)
    return Row(
        f"twin of TPC-H: snapshot and build, beside the server start, median of {BUILDS}",
        round(value, 3),
        "s",
        "<= 1",
        value <= 1,
        why=f"initdb and start: {statistics.median(started):.2f} s",
    )


def _many_tables(server: Server) -> Row:
    with server.connect() as connection:
        if not connection.execute("select 1 from pg_database where datname = 'many'").fetchone():
            connection.execute("create database many")
            with server.connect(database="many") as loader:
                for number in range(MANY_TABLES):
                    loader.execute(
                        f"create table t{number} (id int primary key, a int, b int, c text, d text, e numeric, f timestamptz, g boolean);"
                        f"insert into t{number} select i, i % 7, i % 50, 'c' || i, md5(i::text), i / 3.0, now(), i % 2 = 0 from generate_series(1, 1000) i;"
                        f"create index on t{number} (a, b); grant select on t{number} to reader; analyze t{number}".encode()
                    )
    names = tuple(f"t{number}" for number in range(MANY_TABLES))
    with server.connect("reader", "many") as connection:
        seconds, start = _built(connection, names)
    return Row(
        f"twin of {MANY_TABLES} tables, 8 columns and 2 indexes each: snapshot and build, beside the server start",
        round(seconds, 2),
        "s",
        "<= 5",
        seconds <= 5,
        why=f"initdb and start: {start:.2f} s",
    )


def _built(connection: psycopg.Connection[tuple[object, ...]], names: Sequence[str]) -> tuple[float, float]:
    """(seconds of snapshot and build, seconds of the server's start)."""
    began = time.monotonic()
    snapshot = take(connection, tuple(names))
    with Twin(snapshot) as twin:
        twin.explain("select 1")
        seconds = time.monotonic() - began
        return seconds - twin.started_s, twin.started_s
