"""Statements that somebody wants tried, each as the change that makes it and can take it back; what has no undo is refused."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import sqlglot
from sqlglot import TokenType
from sqlglot.errors import SqlglotError

from perfloop.errors import UsageError
from perfloop.model.finding import Proposal

_NAME = r'(?:"(?:[^"]|"")+"|[A-Za-z_][\w$]*)'
_TABLE = rf"(?:(?P<schema>{_NAME})\.)?(?P<table>{_NAME})"
_VALUE = r"(?P<value>'(?:[^']|'')*'|[^\s;'][^;']*?)"
_SETTING = r"(?P<name>[a-z_][\w.]*)"
_FORMS: tuple[tuple[str, str], ...] = (
    ("postgres-index-definition", r"CREATE\s+(?:UNIQUE\s+)?INDEX\s.+"),
    ("postgres-setting", rf"ALTER\s+SYSTEM\s+SET\s+{_SETTING}\s*(?:=|\sTO\s)\s*{_VALUE}"),
    ("postgres-database-setting", rf"ALTER\s+DATABASE\s+(?P<database>{_NAME})\s+SET\s+{_SETTING}\s*(?:=|\sTO\s)\s*{_VALUE}"),
    ("postgres-table-options", rf"ALTER\s+TABLE\s+{_TABLE}\s+SET\s*\((?P<options>[^()]+)\)"),
    ("postgres-statistics", rf"CREATE\s+STATISTICS\s+(?P<name>{_NAME})\s+(?:\([^()]*\)\s+)?ON\s+(?P<columns>[^()]+?)\s+FROM\s+{_TABLE}"),
    ("postgres-analyze", rf"ANALYZE\s+{_TABLE}(?:\s*\((?P<columns>[^()]+)\))?"),
    ("postgres-vacuum", rf"VACUUM\s*(?:\(\s*ANALYZE\s*\)|ANALYZE)?\s*{_TABLE}"),
    ("mysql-setting", rf"SET\s+(?:GLOBAL\s+|@@GLOBAL\.){_SETTING}\s*=\s*{_VALUE}"),
)


def proposals_of(text: str) -> tuple[Proposal, ...]:
    """The changes that these statements (separated by semicolons) describe; ``UsageError`` where one cannot be parsed or has no undo that is known."""
    try:
        ends = [token.start for token in sqlglot.tokenize(text, read="postgres") if token.token_type == TokenType.SEMICOLON]
    except SqlglotError as error:
        raise UsageError(f"{text[:80]!r} cannot be parsed", why=str(error).splitlines()[0][:200], fix="write statements as the database takes them") from None
    parts = [text[begin:end].strip(" \n\t;") for begin, end in pairwise((0, *ends, len(text)))]
    return tuple(_proposal(part) for part in parts if part)


def _proposal(statement: str) -> Proposal:
    for kind, form in _FORMS:
        match = re.fullmatch(form, statement, re.I | re.S)
        if match:
            return Proposal(kind=kind, title="", params=_params(kind, statement, match))
    raise UsageError(
        f"{statement[:80]!r} is not tried",
        why="no undo is known for it",
        fix="CREATE INDEX, CREATE STATISTICS, ANALYZE, VACUUM, ALTER SYSTEM SET, ALTER DATABASE … SET, ALTER TABLE … SET (…) and SET GLOBAL can be tried",
    )


def _params(kind: str, statement: str, match: re.Match[str]) -> dict[str, Any]:
    if kind == "postgres-index-definition":
        return {"definition": statement}
    found = match.groupdict()
    params: dict[str, Any] = {key: _plain(found[key]) for key in ("schema", "table", "name", "database") if found.get(key)}
    if found.get("value"):
        params["value"] = found["value"].strip("'").replace("''", "'").strip()
    if found.get("columns"):
        params["columns"] = [_plain(column.strip()) for column in found["columns"].split(",")]
    if found.get("options"):
        params["options"] = {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in found["options"].split(","))}
    if kind == "postgres-statistics":
        params["extended"] = True
    return params


def _plain(name: str) -> str:
    """An identifier as the catalogue has it."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
