"""Indexes that plain columns do not tell: partial, expression, GIN and BRIN, read off the conditions in the twin's own plans, as PostgreSQL prints them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from perfloop.change.index_candidates import Candidate

SPECIAL_MAX = 40
BRIN_PAGES_MIN = 1_000
BRIN_CORRELATION_MIN = 0.9
PARTIAL_VALUES_MAX = 50  # a column of more values is searched for another one each time
_TEXTS = ("Filter", "Index Cond", "Recheck Cond")
#: operators that GIN serves; for JSON the smaller class serves containment alone
_INVERTED = re.compile(r"(?<![\w.\")])\(?(?:(\w+)\.)?(\w+|\"(?:[^\"]|\"\")+\")\s+(@>|&&|@@|\?\||\?&|\?)\s")
#: strings, quoted names, names of tables before a dot, and single signs
_PIECES = re.compile(r"'(?:[^']|'')*'|(?:\"(?:[^\"]|\"\")+\"|\b[A-Za-z_]\w*)\.(?=[A-Za-z_\"])|\"(?:[^\"]|\"\")+\"|.", re.S)
_COMPARED = (exp.EQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Like)


@dataclass(frozen=True)
class TableFacts:
    """What decides whether a kind of index is worth a try: pages, and by column its type, how far the order of rows follows its values, and how many values it has (negative: a share of the rows)."""

    pages: int
    types: Mapping[str, str]
    correlations: Mapping[str, float]
    distinct: Mapping[str, float]


def special(plan: Mapping[str, Any], facts: Mapping[str, TableFacts], plain: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Candidates from one query's plan. ``plain``: its plain ones, which are tried again with the query's own constant conditions."""
    found: dict[Candidate, None] = {}
    for node in _nodes(plan):
        table = f"{node.get('Schema', 'public')}.{node['Relation Name']}" if "Relation Name" in node else ""
        if table not in facts:
            continue
        for text in (str(node[key]) for key in _TEXTS if key in node):
            for candidate in (*_inverted(table, text, facts[table]), *_of_conditions(table, text, facts[table], plain)):
                found[candidate] = None
    return tuple(found)[:SPECIAL_MAX]


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _inverted(table: str, text: str, facts: TableFacts) -> Iterator[Candidate]:
    for match in _INVERTED.finditer(text):
        column = match[2].strip('"')
        kind = facts.types.get(column, "")
        if kind == "jsonb":
            yield Candidate(table, ((column, False),), method="gin", raw=f"{_quoted(column)} jsonb_path_ops" if match[3] in ("@>", "@@") else _quoted(column))
        elif kind == "tsvector" or kind.endswith("[]"):
            yield Candidate(table, ((column, False),), method="gin", raw=_quoted(column))


def _of_conditions(table: str, text: str, facts: TableFacts, plain: Sequence[Candidate]) -> Iterator[Candidate]:
    for written in _conjuncts(text):
        part = _parsed(written)
        names = {column.name for column in part.find_all(exp.Column)} if part else set()
        if part is None or len(names) != 1 or not names <= set(facts.types):
            continue
        (name,) = names
        left = part.this.unnest() if isinstance(part, _COMPARED) and not list(part.expression.find_all(exp.Column)) else None
        if left is not None and not isinstance(left, exp.Column):
            cast = isinstance(left, exp.Cast) and isinstance(left.this.unnest(), exp.Column)  # a cast of a column is a matter of the query's types
            if not cast and (expression := _left(written)):
                yield Candidate(table, ((name, False),), raw=f"({expression})")
        ordered = facts.pages >= BRIN_PAGES_MIN and abs(facts.correlations.get(name, 0.0)) >= BRIN_CORRELATION_MIN
        if ordered and isinstance(left, exp.Column) and isinstance(part, (exp.GT, exp.GTE, exp.LT, exp.LTE)):
            yield Candidate(table, ((name, False),), method="brin")
        if _constant(part) and (not isinstance(part, exp.EQ) or 0 < facts.distinct.get(name, 0.0) <= PARTIAL_VALUES_MAX):
            where = _unqualified(written)
            for candidate in plain:
                rest = tuple(key for key in candidate.keys if key[0] != name)
                if candidate.table == table and rest:
                    yield Candidate(table, rest, tuple(column for column in candidate.include if column != name), where=where)
            yield Candidate(table, ((name, False),), where=where)


def _constant(part: exp.Expr) -> bool:
    """A condition that is the same in each execution: a column compared with a text, a number or null, or a boolean column."""
    if isinstance(part, exp.Column) or (isinstance(part, exp.Not) and isinstance(part.this.unnest(), exp.Column)):
        return True
    if isinstance(part, exp.Is):
        return isinstance(part.this.unnest(), exp.Column)
    if not isinstance(part, exp.EQ) or not isinstance(part.this.unnest(), exp.Column):
        return False
    value = part.expression.unnest()
    while isinstance(value, exp.Cast):
        value = value.this.unnest()
    return isinstance(value, (exp.Literal, exp.Boolean))


def _parsed(text: str) -> exp.Expr | None:
    try:
        where = sqlglot.parse_one(f"SELECT 1 WHERE {text}", read="postgres").find(exp.Where)
    except (SqlglotError, RecursionError):
        return None
    return where.this.unnest() if where else None


def _conjuncts(text: str) -> list[str]:
    """The conditions that must all hold, each as PostgreSQL writes it: an index must have the very same expression."""
    text = _unwrapped(text)
    parts = _split(text, (" AND ",))
    return [text] if len(parts) == 1 else [found for part in parts for found in _conjuncts(part)]


def _left(text: str) -> str:
    """The left side of a comparison, without the names of tables."""
    parts = _split(text, (" = ", " <= ", " >= ", " < ", " > ", " ~~ "))
    return _unqualified(parts[0]) if len(parts) == 2 else ""


def _split(text: str, signs: Sequence[str]) -> list[str]:
    """At these signs, where they are outside of parentheses and quotes."""
    parts, depth, begin = [], 0, 0
    for match in _PIECES.finditer(text):
        depth += (match[0] == "(") - (match[0] == ")")
        sign = next((one for one in signs if depth == 0 and match[0] == " " and text.startswith(one, match.start())), "")
        if sign and match.start() >= begin:
            parts.append(text[begin : match.start()])
            begin = match.start() + len(sign)
    return [*parts, text[begin:]]


def _unwrapped(text: str) -> str:
    """Without parentheses around the whole."""
    while text.startswith("(") and text.endswith(")"):
        depth, closed = 0, 0
        for match in _PIECES.finditer(text):
            depth += (match[0] == "(") - (match[0] == ")")
            if depth == 0:
                closed = match.end()
                break
        if closed != len(text):
            break
        text = text[1:-1]
    return text


def _unqualified(text: str) -> str:
    """An index knows one table: ``p.email`` is ``email``."""
    return _PIECES.sub(lambda match: "" if match[0].endswith(".") else match[0], text)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
