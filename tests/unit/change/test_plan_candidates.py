"""Partial, expression, GIN and BRIN candidates out of conditions as PostgreSQL prints them."""

from __future__ import annotations

import pytest

from perfloop.change.index_candidates import Candidate
from perfloop.change.plan_candidates import TableFacts, special

TYPES = {
    "id": "integer",
    "email": "text",
    "state": "text",
    "tags": "text[]",
    "doc": "jsonb",
    "body": "tsvector",
    "made": "timestamp with time zone",
    "gone": "boolean",
}
FACTS = {"public.paper": TableFacts(5_000, TYPES, {"made": 0.99, "id": 0.2}, {"state": 3, "email": -1, "id": -1, "gone": 2})}


def ddl(condition: str, *plain: Candidate, key: str = "Filter") -> list[str]:
    plan = {"Node Type": "Aggregate", "Plans": [{"Node Type": "Seq Scan", "Schema": "public", "Relation Name": "paper", key: condition}]}
    return [one.ddl(concurrently=False).partition('"public"."paper" ')[2] for one in special(plan, FACTS, plain)]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("(lower(p.email) = 'a AND b'::text)", ["((lower(email)))"]),
        ("(date_trunc('day'::text, p.made) = '2025-01-01 00:00:00+00'::timestamp with time zone)", ["((date_trunc('day'::text, made)))"]),
        ("(p.tags @> '{x}'::text[])", ['USING gin ("tags")']),
        ("(p.doc @> '{\"a\": 1}'::jsonb)", ['USING gin ("doc" jsonb_path_ops)']),
        ("(p.doc ? 'a'::text)", ['USING gin ("doc")']),
        ("(p.body @@ '''w'''::tsquery)", ['USING gin ("body")']),
        ("(p.made > '2025-01-01 00:00:00+00'::timestamp with time zone)", ['USING brin ("made")']),
        ("(p.id > 5)", []),
        ("((p.email)::integer = 7)", []),
        ("(p.state = 'stuck'::text)", ["(\"state\") WHERE state = 'stuck'::text"]),
        ("(NOT p.gone)", ['("gone") WHERE NOT gone']),
        ("((p.state = 'stuck'::text) OR (p.id = 7))", []),
        ("(p.state = $1)", []),
        ("(p.email = 'x'::text)", []),
        ("(p.email IS NULL)", ['("email") WHERE email IS NULL']),
    ],
)
def test_conditions(condition: str, expected: list[str]) -> None:
    assert ddl(condition) == expected


def test_plain_candidates_are_tried_for_some_rows_too() -> None:
    plain = Candidate("public.paper", (("id", False), ("state", False)), ("email",))
    found = ddl("((p.state = 'stuck'::text) AND (p.id = 7))", plain)
    assert '("id") INCLUDE ("email") WHERE state = \'stuck\'::text' in found
    assert all("WHERE id" not in one or '("state")' in one or '("id")' in one for one in found)


def test_names_tell_indexes_apart() -> None:
    names = {
        Candidate("t", (("a", False),), raw=raw, where=where, method=method).name
        for raw, where, method in (("", "", "btree"), ("(lower(a))", "", "btree"), ("", "a = 1", "btree"), ("", "", "brin"))
    }
    assert len(names) == 4
