"""One text for all executions, and no literal left."""

from __future__ import annotations

import pytest

from perfloop.sql.fingerprint import fingerprint, normalize
from perfloop.sql.predicates import TablePredicates, predicates

SCHEMA = {"public.orders": ["id", "customer_id", "status", "created_at"], "public.customers": ["id", "name", "email"], "other.things": ["id"]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT * FROM t WHERE id = 1", "select *\n from t  where id = 99 -- x"),
        ("SELECT * FROM t WHERE id IN (1, 2, 3)", "SELECT * FROM t WHERE id IN (4)"),
        ("SELECT * FROM t WHERE id = 'a'", "SELECT * FROM t WHERE id = $1"),
        ("SELECT * FROM t WHERE id = -5", "SELECT * FROM t WHERE id = 5"),
        ("INSERT INTO t (a, b) VALUES (1, 'x')", "INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y')"),
        ("SELECT * FROM t WHERE id = 1 LIMIT 5 OFFSET 10", "SELECT * FROM t WHERE id = 1 LIMIT 50 OFFSET 100"),
        ("vacuum (parallel 1) t", "vacuum (parallel 2) t"),
    ],
)
def test_executions_of_one_query_share_a_text(one: str, other: str) -> None:
    assert normalize(one) == normalize(other)
    assert fingerprint(one) == fingerprint(other)


def test_different_queries_differ() -> None:
    assert normalize("SELECT a FROM t WHERE b = 1") != normalize("SELECT a FROM t WHERE c = 1")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'geheim'",
        "SELECT * FROM t WHERE a = 'it''s geheim' AND b = E'x\\'geheim'",
        "SELECT $$geheim$$, $tag$geheim$tag$, U&'geheim', B'01', X'ff', N'geheim'",
        "SELECT * FROM t WHERE j ->> 'geheim' = 'x' AND k @> '{\"a\": \"geheim\"}'",
        "ALTER ROLE x PASSWORD 'geheim'",
        "COPY t FROM 'geheim' WITH (DELIMITER 'g')",
        "SELECT * FROM t WHERE a = 'geheim and then cut o",
        "SELECT * FROM t WHERE a = $$geheim and then cut o",
        "this is 'geheim' not SQL at ( all",
        "DO $$ BEGIN PERFORM 'geheim'; END $$",
        "SELECT 1 -- geheim",
        "SELECT 1 /* geheim",
        "CALL f('geheim')",
        "SET x = 'geheim'",
        "SELECT interval 'geheim', date 'geheim'",
        "EXECUTE p('geheim', 42424242)",
    ],
)
def test_no_literal_remains(text: str) -> None:
    assert "geheim" not in normalize(text)
    assert "42424242" not in normalize(text)
    assert normalize(text) == normalize(text)


def test_mysql() -> None:
    assert normalize('SELECT `a` FROM t WHERE b = "geheim" AND c = 5', "mysql") == "SELECT `a` FROM t WHERE b = ? AND c = ?"


def test_names_stay() -> None:
    assert normalize('SELECT t1.a1, "Odd Name" FROM t1 WHERE x2 = 5') == 'SELECT t1.a1, "Odd Name" FROM t1 WHERE x2 = ?'


def test_predicates_resolve_aliases_and_unqualified_columns() -> None:
    text = """select o.id, name from orders o join customers c on c.id = o.customer_id
              where email = $1 and created_at > now() - interval '1 day' and status in ('a', 'b') order by created_at desc, o.id limit 5"""
    assert predicates(text, "postgres", SCHEMA) == (
        TablePredicates("public.orders", range=("created_at",), in_list=("status",), join=("customer_id",), order=(("created_at", True), ("id", False))),
        TablePredicates("public.customers", equality=("email",), join=("id",)),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select * from orders where customer_id = 5 and status = ?", TablePredicates("public.orders", equality=("customer_id", "status"))),
        ("select * from ORDERS where CUSTOMER_ID = any($1)", TablePredicates("public.orders", in_list=("customer_id",))),
        ("select * from orders where 5 < id and created_at between $1 and $2", TablePredicates("public.orders", range=("id", "created_at"))),
        ("select * from orders where (status = 'a' or id = 5) and not customer_id = 1", TablePredicates("public.orders")),
        ("select * from orders where lower(status) = 'x' and customer_id is null", TablePredicates("public.orders", equality=("customer_id",))),
        ("update orders set status = 'x' where customer_id = 5", TablePredicates("public.orders", equality=("customer_id",))),
        ("delete from orders where customer_id = 5", TablePredicates("public.orders", equality=("customer_id",))),
        ("select count(*) from (select * from orders where id = 1) x", TablePredicates("public.orders", equality=("id",))),
        ("select * from things where id = 1", TablePredicates("other.things", equality=("id",))),
        ("select * from orders order by created_at desc, lower(status)", TablePredicates("public.orders")),
    ],
)
def test_predicates(text: str, expected: TablePredicates) -> None:
    assert predicates(text, "postgres", SCHEMA) == (expected,)


def test_correlated_subqueries_are_joins() -> None:
    found = predicates("select * from customers c where exists (select 1 from orders o where o.customer_id = c.id and o.status = $1)", "postgres", SCHEMA)
    assert TablePredicates("public.orders", equality=("status",), join=("customer_id",)) in found


def test_without_a_schema_qualified_columns_are_still_told() -> None:
    assert predicates("select * from orders o join customers c on c.id = o.customer_id where o.status = 'x'") == (
        TablePredicates("orders", equality=("status",), join=("customer_id",)),
        TablePredicates("customers", join=("id",)),
    )
    assert predicates("select * from orders where status = 'x'") == (TablePredicates("orders", equality=("status",)),)


@pytest.mark.parametrize("text", ["", "no sql (", "vacuum t", "select 1", "set a = 1", "(" * 5000])
def test_what_looks_for_nothing(text: str) -> None:
    assert predicates(text) == ()
