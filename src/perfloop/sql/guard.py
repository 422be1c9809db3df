"""The second wall before a load test's SQL: every statement is parsed, and what writes or harms is refused. (The first wall is the database's own role.)"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlglot import exp

from perfloop.errors import UsageError
from perfloop.sql.functions import SLEEP_MAX_S, SLEEPS, harm_of, known_harmless
from perfloop.sql.parse import LEXEMES, Dialect, statements

LARGE_ROWS = 100_000
_READS = (exp.Select, exp.SetOperation, exp.Subquery, exp.Values, exp.Show, exp.Describe, exp.Table)
_WRITES = (exp.Insert, exp.Update, exp.Delete, exp.Merge)
_DEFINITIONS = (exp.Create, exp.Drop, exp.Alter, exp.TruncateTable)
_NOT_SQL = (exp.Alias, exp.Column, exp.Identifier, exp.Literal, exp.Paren, exp.Binary, exp.Func)
_EXPLAIN = re.compile(r"^EXPLAIN\s*(?:\((?P<options>[^)]*)\)|(?P<words>(?:\s*\b(?:ANALYZE|ANALYSE|VERBOSE)\b)*))\s*(?P<inner>.*)$", re.I | re.S)
_ANALYZE = re.compile(r"\bANALY[SZ]E\b(?!\s*(?:=\s*)?(?:false|off|0)\b)", re.I)
_FIX = "use reads only, or opt in to writes on a target that is a sandbox"


@dataclass(frozen=True)
class GuardResult:
    """The statements of the text, one by one, and what to know about them before they are sent."""

    statements: tuple[str, ...]
    warnings: tuple[str, ...]


def check_load_sql(text: str, dialect: Dialect = "postgres", *, writes_allowed: bool = False, table_rows: Mapping[str, int] | None = None) -> GuardResult:
    """Check SQL before a load test sends it. ``table_rows`` gives sizes for the warning about a SELECT with no WHERE on a large table.

    Raises UsageError, naming what and where, for text that is no SQL, for writes of any kind (also in a CTE, SELECT INTO, FOR UPDATE, EXPLAIN ANALYZE,
    COPY, SET, DO, CALL) and for functions that write, reach out or harm. ``writes_allowed`` (a sandbox whose owner opted in) lets
    INSERT, UPDATE, DELETE, MERGE, DDL and row locks through, never the harmful functions, COPY, DO, CALL or SET.
    """
    _refuse_tricks(text, dialect)
    warnings: list[str] = []
    found = statements(text, dialect)
    for number, statement in enumerate(found, 1):
        where = f"statement {number}: " if len(found) > 1 else ""
        _check(statement.tree, dialect, writes_allowed, where, warnings)
        warnings += [where + line for line in _unfiltered(statement.tree, table_rows)]
    return GuardResult(tuple(statement.text for statement in found), tuple(dict.fromkeys(warnings)))


def _refuse(where: str, what: str, why: str = "", fix: str = _FIX) -> UsageError:
    return UsageError(f"{where}{what}", why or "a load test must not change the data that it measures", fix)


def _refuse_tricks(text: str, dialect: Dialect) -> None:
    """Text that a server reads otherwise than the parser does."""
    for match in LEXEMES.finditer(text):
        if dialect == "mysql" and match.lastgroup == "comment" and re.match(r"/\*M?!", match[0]):
            raise _refuse(
                "", "the text holds a comment that the server executes", f"{match[0][:20]!r} is code for MySQL", "write the code without the comment signs"
            )
    if dialect == "postgres" and re.search(r'\b[uU]&"', text):
        raise _refuse("", "the text holds an identifier with Unicode escapes", 'U&"…" hides a name from the check', "write the name itself")


def _check(tree: exp.Expr, dialect: Dialect, writes_allowed: bool, where: str, warnings: list[str]) -> None:
    if isinstance(tree, exp.Command):
        _check_command(tree, dialect, writes_allowed, where, warnings)
        return
    if isinstance(tree, exp.Describe):
        inner = tree.this
        executed = "ANALYZE" in str(tree.args.get("style") or "").upper()
        if executed and isinstance(inner, exp.Expr):
            _check(inner, dialect, writes_allowed, where, warnings)
        return
    if not isinstance(tree, (*_READS, *_WRITES, *_DEFINITIONS)):
        raise _not_a_read(tree, where)
    for node in tree.walk():
        _check_node(node, writes_allowed, where)
        if isinstance(node, exp.Func):
            _check_function(node, where, warnings)


def _check_node(node: exp.Expr, writes_allowed: bool, where: str) -> None:
    kind = ""
    if isinstance(node, _WRITES):
        kind = type(node).__name__.upper()
    elif isinstance(node, _DEFINITIONS):
        kind = "TRUNCATE" if isinstance(node, exp.TruncateTable) else f"{type(node).__name__.upper()} {node.args.get('kind') or ''}".strip()
    elif isinstance(node, exp.Into):
        kind = "SELECT INTO"
    elif isinstance(node, exp.Lock):
        kind = "SELECT … FOR UPDATE or FOR SHARE"
    elif isinstance(node, (exp.Command, exp.Copy, exp.Set, exp.Kill)):
        raise _not_a_read(node, where)
    elif isinstance(node, exp.NextValueFor):
        kind = "NEXT VALUE FOR"
    if kind and not writes_allowed:
        raise _refuse(where, f"{kind} is a write", "it takes row locks" if isinstance(node, exp.Lock) else "")


def _not_a_read(tree: exp.Expr, where: str) -> UsageError:
    if isinstance(tree, _NOT_SQL):
        return UsageError(f"{where}this is no SQL statement", f"line 1, column 1: {tree.sql()[:60]!r} begins no statement", "give a SELECT")
    name = str(tree.this).upper() if isinstance(tree, exp.Command) else type(tree).__name__.upper()
    if isinstance(tree, exp.Copy):
        return _refuse(where, "COPY is refused", "it reads or writes files or programs of the server", "use a SELECT")
    return _refuse(where, f"{name} is refused", "it is no read, or perfloop cannot tell what it does", "use SELECT statements")


def _check_command(tree: exp.Command, dialect: Dialect, writes_allowed: bool, where: str, warnings: list[str]) -> None:
    name = str(tree.this).upper()
    if name == "SHOW":
        return
    if name == "REPLACE" and writes_allowed:
        return
    match = _EXPLAIN.match(f"{name} {tree.expression.name.strip()}") if name == "EXPLAIN" else None
    if match is None:
        raise _not_a_read(tree, where)
    inner = statements(match["inner"], dialect)[0].tree
    if _ANALYZE.search(match["options"] or match["words"] or ""):
        _check(inner, dialect, writes_allowed, f"{where}EXPLAIN ANALYZE executes its statement: ", warnings)
    elif not isinstance(inner, (*_READS, *_WRITES)):
        raise _not_a_read(inner, where)


def _check_function(node: exp.Func, where: str, warnings: list[str]) -> None:
    name = node.name if isinstance(node, (exp.Anonymous, exp.AnonymousAggFunc)) else node.sql_name()
    harm = harm_of(name)
    if harm:
        raise _refuse(where, f"the function {name.lower()} is refused", f"it {harm}", "use SELECT statements without it")
    if name.lower() in SLEEPS:
        argument = node.expressions[0] if node.expressions else None
        if not isinstance(argument, exp.Literal) or argument.is_string or float(argument.name) > SLEEP_MAX_S:
            raise _refuse(
                where,
                f"the function {name.lower()} is refused",
                f"it sleeps longer than {SLEEP_MAX_S:g} s, or for a time that cannot be told",
                f"sleep for a number of seconds up to {SLEEP_MAX_S:g}",
            )
        warnings.append(f"{where}{name.lower()} sleeps: the latency measured includes it")
    elif isinstance(node, exp.Anonymous) and not known_harmless(name):
        warnings.append(f"{where}perfloop does not know the function {name}: check that it only reads")


def _unfiltered(tree: exp.Expr, table_rows: Mapping[str, int] | None) -> Iterator[str]:
    """Warnings for each SELECT that reads a large table whole (large by the sizes given; where none are given, said with that)."""
    rows = {key.lower(): value for key, value in (table_rows or {}).items()}
    names = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    for select in tree.find_all(exp.Select):
        if select.args.get("where"):
            continue
        source = select.args.get("from_") or select.args.get("from")
        table = source.this if source else None
        if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier) or (not table.db and table.name.lower() in names):
            continue
        full = f"{table.db}.{table.name}" if table.db else table.name
        count = rows.get(full.lower(), rows.get(table.name.lower(), rows.get(f"public.{table.name.lower()}")))
        if table_rows is None:
            yield f"SELECT with no WHERE on {full}: it reads the whole table, whose size was not looked up"
        elif count is not None and count >= LARGE_ROWS:
            yield f"SELECT with no WHERE on {full}, a table of {count:,} rows"
