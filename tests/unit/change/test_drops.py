"""Which indexes may go, on a real catalogue: planted needless ones are all found, and nothing that something depends on."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest

from perfloop.change import drops
from perfloop.model.advice import IndexDrop
from perfloop.sql.connect import connect_readonly
from services import Postgres

SCHEMA = """
CREATE SCHEMA d; SET search_path = d;
CREATE TABLE parent (id int PRIMARY KEY, code text UNIQUE, a int, b int, c text, d timestamptz, e int[], f int, g int NOT NULL);
CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent, note text, at timestamptz, ref int NOT NULL);
CREATE INDEX keep_ab ON parent (a, b); CREATE INDEX drop_a ON parent (a); CREATE INDEX drop_ab_again ON parent (a, b);
CREATE INDEX keep_b ON parent (b); CREATE INDEX keep_ba_desc ON parent (b DESC, a); CREATE INDEX keep_a_partial ON parent (a) WHERE b > 5; CREATE INDEX drop_a_partial_again ON parent (a) WHERE b > 5;
CREATE INDEX keep_c_pattern ON parent (c text_pattern_ops); CREATE INDEX keep_c ON parent (c); CREATE INDEX keep_c_lower ON parent (lower(c)); CREATE INDEX drop_c_lower_again ON parent (lower(c));
CREATE INDEX keep_d ON parent (d, f); CREATE INDEX drop_d ON parent (d); CREATE INDEX keep_d_include ON parent (d) INCLUDE (c); CREATE INDEX keep_d_collate ON parent (c COLLATE "C", d);
CREATE INDEX keep_gin ON parent USING gin (e); CREATE INDEX drop_gin_again ON parent USING gin (e); CREATE INDEX keep_brin ON parent USING brin (d) WITH (pages_per_range = 16);
CREATE INDEX keep_brin_fine ON parent USING brin (d) WITH (pages_per_range = 4); CREATE INDEX keep_hash ON parent USING hash (a);
CREATE UNIQUE INDEX keep_unique ON parent (g); CREATE INDEX keep_gf ON parent (g, f); CREATE INDEX drop_id ON parent (id); CREATE INDEX drop_code ON parent (code);
CREATE INDEX keep_parent_id ON child (parent_id, at); CREATE INDEX drop_parent_id ON child (parent_id); CREATE INDEX drop_fk_again ON child (parent_id, at);
CREATE UNIQUE INDEX keep_identity ON child (ref); ALTER TABLE child REPLICA IDENTITY USING INDEX keep_identity; CREATE INDEX keep_ref ON child (ref, at);
CREATE INDEX keep_note_include ON child (note) INCLUDE (at, ref); CREATE INDEX drop_note ON child (note); CREATE INDEX drop_note_include ON child (note) INCLUDE (at);
CREATE INDEX keep_nulls ON child (at NULLS FIRST, note); CREATE INDEX keep_at ON child (at);
INSERT INTO parent SELECT i, 'c' || i, i, i, 'x', now(), '{1}', i, i FROM generate_series(1, 100) i;
GRANT USAGE ON SCHEMA d TO looker; GRANT SELECT ON ALL TABLES IN SCHEMA d TO looker
"""


@pytest.fixture(scope="module")
def found(postgres: Postgres) -> Iterator[dict[str, IndexDrop]]:
    with psycopg.connect(postgres.admin, autocommit=True) as owner:
        owner.execute("CREATE ROLE looker LOGIN PASSWORD 'pw'")
        for statement in SCHEMA.split(";"):
            owner.execute(statement.encode())
        with pytest.raises(psycopg.errors.UniqueViolation):
            owner.execute("INSERT INTO parent (id, g) VALUES (1001, 1)")
        owner.execute("SET search_path = d; CREATE TABLE twice AS SELECT 1 AS x FROM generate_series(1, 2)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            owner.execute("CREATE UNIQUE INDEX CONCURRENTLY invalid_unique ON twice (x)")
        try:
            with connect_readonly(postgres.dsn("looker", "pw")) as connection:
                yield {drop.index.rpartition(".")[2]: drop for drop in drops.drops(drops.read(connection)) if drop.index.startswith("d.")}
        finally:
            owner.execute("DROP SCHEMA d CASCADE; DROP ROLE looker")


def test_all_planted_ones_and_no_other(found: dict[str, IndexDrop]) -> None:
    planted = {name.strip() for name in re.findall(r"INDEX (drop_\w+)", SCHEMA)}
    assert set(found) == planted


def test_each_tells_its_cover_and_can_be_brought_back(found: dict[str, IndexDrop], postgres: Postgres) -> None:
    assert found["drop_a"].why == "d.keep_ab begins with the same columns and serves the same queries"
    assert found["drop_ab_again"].why == "d.keep_ab is the same index"
    assert found["drop_a"].ddl == "DROP INDEX CONCURRENTLY d.drop_a;"
    with psycopg.connect(postgres.admin, autocommit=True) as owner:
        for drop in found.values():
            before = owner.execute("SELECT pg_get_indexdef(%s::regclass)", (drop.index,)).fetchone()
            owner.execute(drop.ddl.encode())
            owner.execute(drop.undo.encode())
            assert owner.execute("SELECT pg_get_indexdef(%s::regclass)", (drop.index,)).fetchone() == before


def fact(oid: int, keys: str, **more: object) -> drops.Fact:
    columns = tuple(keys.split())
    given = {"name": f"i{oid}", "table_oid": 1, "table": "t", "definition": "CREATE INDEX x ON t (a)", "method": "btree", "valid": True, "unique": False}
    given |= {"replica_identity": False, "constraint": False, "include": (), "predicate": "", "size_bytes": 1}
    return drops.Fact(oid=oid, keys=columns, columns=columns, **{**given, **more})  # type: ignore[arg-type]


def test_an_invalid_one_goes_and_covers_nothing() -> None:
    found = drops.drops([fact(1, "a"), fact(2, "a b", valid=False)])
    assert [drop.index for drop in found] == ["i2"]
    assert found[0].undo == ""


def test_one_that_is_being_built_is_left_alone() -> None:
    assert drops.drops([fact(1, "a"), fact(2, "a b", valid=False, building=True)]) == ()


def test_of_three_equal_ones_the_oldest_stays() -> None:
    assert {drop.index for drop in drops.drops([fact(1, "a"), fact(2, "a"), fact(3, "a")])} == {"i2", "i3"}
