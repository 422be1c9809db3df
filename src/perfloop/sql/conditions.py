"""The simple conditions in a plan's scans: what the planner expects of each, and what the table holds. Reads counts only, bounded in time; no value leaves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from perfloop.errors import CannotMeasure
from perfloop.model.query import Condition
from perfloop.sql.connect import Connection, database_error, query
from perfloop.sql.explain import plan_of
from perfloop.sql.hidden import hide_values

PAGES_EXACT_MAX = 40_000  # up to 320 MB is counted whole, more by a sample of pages
SAMPLE_PAGES = 8_000
COUNT_MAX_MS = 3_000
CONDITIONS_MAX = 12
_SCANS = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan")
_OPERATORS: dict[type[exp.Expr], str] = {exp.EQ: "=", exp.GT: ">", exp.GTE: ">=", exp.LT: "<", exp.LTE: "<=", exp.Like: "~~", exp.ILike: "~~*"}


@dataclass(frozen=True)
class Term:
    """One condition as PostgreSQL prints it, and what it is made of. ``value`` is the other side's text, literals and all: never stored."""

    text: str
    column: str
    operator: str
    value: str
    cast: str = ""
    function: str = ""


def scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The scans of tables, top down."""
    if plan.get("Node Type") in _SCANS and "Relation Name" in plan:
        yield plan
    for child in plan.get("Plans", ()):
        yield from scans(child)


def terms_of(text: str) -> list[Term]:
    """The conditions that all must hold, of those that compare one column with a value; others are skipped."""
    try:
        tree = sqlglot.parse_one(f"SELECT 1 WHERE {text}", read="postgres")
    except SqlglotError:
        return []
    where = tree.find(exp.Where)
    found = [_term(part) for part in _conjuncts(where.this)] if where else []
    return [term for term in found if term]


def _conjuncts(node: exp.Expr) -> Iterator[exp.Expr]:
    node = node.unnest()
    if isinstance(node, exp.And):
        yield from _conjuncts(node.this)
        yield from _conjuncts(node.expression)
    else:
        yield node


def _term(part: exp.Expr) -> Term | None:
    operator = _OPERATORS.get(type(part))
    if isinstance(part, (exp.RegexpLike, exp.RegexpILike)):
        return None
    if operator is None:
        return None
    left, right = part.this, part.expression
    if not list(left.find_all(exp.Column)):
        left, right = right, left
    columns = list(left.find_all(exp.Column))
    if len(columns) != 1 or list(right.find_all(exp.Column)):
        return None
    cast = function = ""
    node = left.unnest()
    while not isinstance(node, exp.Column):
        if isinstance(node, exp.Cast):
            cast = cast or node.to.sql("postgres").lower()
        elif isinstance(node, exp.Func):
            function = function or (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
        elif isinstance(node, exp.Binary):
            function = function or type(node).__name__.lower()
        inner = node.find(exp.Column) if not isinstance(node, (exp.Cast, exp.Paren)) else node.this
        node = inner.unnest() if inner is not None else columns[0]
    value = right.sql("postgres")
    return Term(part.sql("postgres"), columns[0].name, operator, value, cast, function)


def conditions(connection: Connection, plan: dict[str, Any]) -> tuple[Condition, ...]:
    """Each simple condition of the plan's scans with its expected and its seen share. Where a count takes too long, ``seen`` is None."""
    found: list[Condition] = []
    for node in scans(plan):
        texts = [str(node[key]) for key in ("Index Cond", "Recheck Cond", "Filter") if key in node]
        terms = list(dict.fromkeys(term for text in texts for term in terms_of(text)))
        terms = [term for term in terms if not re.search(r"\$\d", term.text)][: CONDITIONS_MAX - len(found)]
        if terms:
            found += _look(connection, node, terms)
    return tuple(found)


def _look(connection: Connection, node: dict[str, Any], terms: list[Term]) -> list[Condition]:
    schema, name, alias = node.get("Schema", "public"), node["Relation Name"], node.get("Alias") or node["Relation Name"]
    table = f"{_quoted(schema)}.{_quoted(name)}"
    rows = query(connection, "select c.reltuples, c.relpages from pg_catalog.pg_class c where c.oid = %s::text::regclass", (table,))
    tuples, pages = (float(rows[0][0]), int(rows[0][1])) if rows else (0.0, 0)
    seen = _seen(connection, table, alias, terms, pages)
    whole = _expected(connection, f"SELECT 1 FROM {table} {_quoted(alias)}")  # noqa: S608 - names are quoted
    found = []
    for term, share in zip(terms, seen, strict=True):
        expected = _expected(connection, f"SELECT 1 FROM {table} {_quoted(alias)} WHERE {term.text}")  # noqa: S608 - PostgreSQL's own text
        common, beyond, known, kind = _known(connection, schema, name, term)
        found.append(
            Condition(
                table=f"{schema}.{name}",
                column=term.column,
                text=hide_values(term.text),
                operator=term.operator,
                expected=expected / max(whole, 1.0) if expected is not None and whole else None,
                seen=share,
                in_common_values=common,
                beyond_histogram=beyond,
                function=term.function,
                cast=term.cast,
                column_type=kind,
                pattern=("" if not term.operator.startswith("~~") else "contains" if term.value.lstrip("'").startswith("%") else "prefix"),
                has_statistics=known or tuples == 0,
            )
        )
    return found


def _seen(connection: Connection, table: str, alias: str, terms: list[Term], pages: int) -> list[float | None]:
    sample = f" TABLESAMPLE SYSTEM ({100 * SAMPLE_PAGES / pages:.4f})" if pages > PAGES_EXACT_MAX else ""
    counts = ", ".join(f"count(*) FILTER (WHERE {term.text})" for term in terms)
    text = f"SELECT count(*), {counts} FROM {table} {_quoted(alias)}{sample}"  # noqa: S608 - names are quoted, conditions are PostgreSQL's own text
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(f"SET LOCAL statement_timeout = {COUNT_MAX_MS}".encode())
            row = connection.execute(text.encode()).fetchone()
    except psycopg.Error as error:
        if connection.broken:
            raise database_error(connection, error) from None
        row = None
    if not row or not row[0]:
        return [None] * len(terms)
    return [float(count) / float(row[0]) for count in row[1:]]


def _expected(connection: Connection, text: str) -> float | None:
    try:
        return float(plan_of(connection, f"EXPLAIN (FORMAT JSON) {text}")["Plan"]["Plan Rows"])
    except CannotMeasure:
        return None


def _known(connection: Connection, schema: str, name: str, term: Term) -> tuple[bool | None, bool | None, bool, str]:
    """(the value is a common one, it lies outside the histogram, there are statistics, the column's type)."""
    rows = query(
        connection,
        "select format_type(a.atttypid, null), s.attname is not null from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        " left join pg_catalog.pg_stats s on s.schemaname = n.nspname and s.tablename = c.relname and s.attname = a.attname where n.nspname = %s and c.relname = %s and a.attname = %s limit 1",
        (schema, name, term.column),
    )
    if not rows or not rows[0][1]:
        return None, None, bool(rows and rows[0][1]), str(rows[0][0]) if rows else ""
    if term.function or term.operator.startswith("~~"):
        return None, None, True, str(rows[0][0])
    kind = str(rows[0][0])
    text = (
        f"SELECT coalesce(({term.value})::{kind} = ANY (most_common_vals::text::{kind}[]), false),"  # noqa: S608 - the type is the catalogue's
        f" ({term.value})::{kind} < (histogram_bounds::text::{kind}[])[1] OR ({term.value})::{kind} > (histogram_bounds::text::{kind}[])[array_length(histogram_bounds::text::{kind}[], 1)]"
        " FROM pg_catalog.pg_stats WHERE schemaname = %s AND tablename = %s AND attname = %s LIMIT 1"
    )
    try:
        found = query(connection, text.replace("%", "%%").replace("%%s", "%s"), (schema, name, term.column))
    except CannotMeasure:
        return None, None, True, kind
    return (bool(found[0][0]), None if found[0][1] is None else bool(found[0][1]), True, kind) if found else (None, None, True, kind)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
