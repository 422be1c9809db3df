"""Plans from a real server."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from perfloop.errors import CannotMeasure, UsageError
from perfloop.sql import catalog
from perfloop.sql.explain import _generic_by_prepare, explain, parameters_in


def test_a_plan(reader: Any) -> None:
    plan, generic = explain(reader, "select * from orders where customer_id = 5;")
    assert not generic
    assert plan["Plan"]["Node Type"] == "Seq Scan"
    assert plan["Plan"]["Relation Name"] == "orders"
    assert "Actual Rows" not in plan["Plan"]


def test_a_generic_plan(reader: Any) -> None:
    plan, generic = explain(reader, "/* by app */ select * from orders where customer_id = $1 and status = '$9 %s' limit $2")
    assert generic
    assert plan["Plan"]["Node Type"] == "Limit"
    plan, _ = explain(reader, "select * from orders where customer_id = $1")
    assert plan["Plan"]["Plan Rows"] == 25  # 5000 rows / 200 customers: a plan for any value, not for NULL
    assert "$1" in plan["Plan"]["Filter"]


def test_a_plan_with_values(reader: Any) -> None:
    plan, generic = explain(reader, "select * from orders where status = $1", ("nothing-like-it",))
    assert not generic
    assert "nothing-like-it" in str(plan)


def test_the_older_servers_way(reader: Any) -> None:
    with reader.transaction():
        plan = _generic_by_prepare(reader, "select * from orders where customer_id = $1", 1)
    assert plan["Plan"]["Relation Name"] == "orders"
    assert plan["Plan"]["Plan Rows"] == 25
    assert reader.execute("select count(*) from pg_prepared_statements").fetchone() == (0,)


def test_a_write_is_planned_and_not_done(database: Any) -> None:
    from perfloop.sql.connect import connect_admin

    with connect_admin(database.admin) as admin:
        plan, _ = explain(admin, "delete from orders where id = $1")
        assert plan["Plan"]["Operation"] == "Delete"
        explain(admin, "with gone as (delete from orders returning *) select * from gone")
        assert admin.execute("select count(*) from orders").fetchone() == (5000,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vacuum orders",
        "analyze delete from orders",
        "(analyze) delete from orders",
        "drop table orders",
        "copy orders to program 'x'",
        "execute x",
        "-- select 1",
    ],
)
def test_what_has_no_plan(reader: Any, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        explain(reader, text)
    assert caught.value.fix


@pytest.mark.parametrize(
    "text",
    [
        "select * from orders; drop table orders",
        "select * from no_such_table",
        "select * from orders where cust",
        "select * from orders where id = $1 and (",
        "select * from other.orders",
        "delete from orders",
    ],
)
def test_what_cannot_be_planned(reader: Any, text: str) -> None:
    with pytest.raises(CannotMeasure) as caught:
        explain(reader, text)
    assert caught.value.why
    assert caught.value.fix
    assert reader.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_parameters_are_counted_outside_of_strings() -> None:
    assert parameters_in("select $2, '$9', $$ $8 $$, \"$7\" -- $6") == 2


def test_tables(reader: Any) -> None:
    found = {table.name: table for table in catalog.tables(reader)}
    orders = found["public.orders"]
    assert orders.rows == 5000
    assert orders.size_bytes > 100_000
    assert orders.columns["created_at"] == "timestamp with time zone"
    assert next(iter(orders.columns)) == "id"
    assert orders.last_analyze.endswith("Z")
    index = next(index for index in orders.indexes if index.name == "orders_status_created")
    assert index.columns == ("status", "created_at")
    assert (index.valid, index.unique, index.primary, index.partial) == (True, False, False, False)
    assert "created_at DESC" in index.definition
    assert any(index.primary and index.unique for index in orders.indexes)
    partial = next(index for index in found["public.customers"].indexes if index.partial)
    assert partial.columns == ("",)
    assert found["other.orders"].last_analyze == ""
    assert "pg_catalog.pg_class" not in found
    assert [table.name for table in catalog.tables(reader, ["public.orders"])] == ["public.orders"]
    assert {table.name for table in catalog.tables(reader, ["orders"])} == {"public.orders", "other.orders"}
    assert catalog.tables(reader, ["nothing"]) == ()
    assert "customer_id" in catalog.schema_of([orders])["public.orders"]
    assert catalog.row_counts([orders]) == {"public.orders": 5000}
