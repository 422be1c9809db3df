"""Reads a query's text without running it: is it one statement, which tables does it name, where are its placeholders."""

from __future__ import annotations

import re

from perfloop.errors import UsageError

TEXT_MAX = 200_000
_TOKEN = re.compile(
    r"""(?P<skip>--[^\n]*|/\*.*?\*/|\$(?P<tag>[A-Za-z_]\w*)?\$.*?\$(?P=tag)?\$|[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|"(?:[^"]|"")*")
      |(?P<number>\$\d+)|(?P<mark>\?)|(?P<end>;)""",
    re.DOTALL | re.VERBOSE,
)


def single_statement(text: str) -> str:
    """The text without a trailing semicolon, and ``?`` numbered as ``$1`` … where it has no ``$n`` of its own; ``UsageError`` where it is more than one statement."""
    if len(text) > TEXT_MAX:
        raise UsageError(f"the query has {len(text)} characters", why=f"{TEXT_MAX} are accepted")
    if not text.strip():
        raise UsageError("the query is empty")
    numbered = has_placeholders(text)
    out: list[str] = []
    position = marks = 0
    for token in _TOKEN.finditer(text):
        if token["end"]:
            if _code(text[token.end() :]).strip(" \t\r\n;"):
                raise UsageError("the query is more than one statement", fix="ask about one statement at a time")
            return "".join((*out, text[position : token.start()])).strip()
        if token["mark"] and not numbered:
            marks += 1
            out += [text[position : token.start()], f"${marks}"]
            position = token.end()
    return "".join((*out, text[position:])).strip()


def has_placeholders(text: str) -> bool:
    """True where the text has ``$1`` … outside quotes and comments."""
    return any(token["number"] for token in _TOKEN.finditer(text))


def placeholders_max(text: str) -> int:
    """The highest ``$n`` outside quotes and comments; 0 where there is none."""
    return max((int(token["number"][1:]) for token in _TOKEN.finditer(text) if token["number"]), default=0)


def _code(text: str) -> str:
    """The text without its comments."""
    return _TOKEN.sub(lambda token: "" if (token["skip"] or "").startswith(("--", "/*")) else token[0], text)


def table_names(text: str) -> tuple[str, ...]:
    """Tables and views that the query names, as ``to_regclass`` reads them; empty where the text cannot be parsed."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        tree = sqlglot.parse_one(text, dialect="postgres")
    except (SqlglotError, RecursionError):
        return ()
    common = {cte.alias for cte in tree.find_all(exp.CTE)}
    names: dict[str, None] = {}
    for table in tree.find_all(exp.Table):
        parts = [part for part in (table.args.get("db"), table.this) if isinstance(part, exp.Identifier)]
        if not parts or (len(parts) == 1 and parts[0].name in common):
            continue
        names[".".join('"' + part.name.replace('"', '""') + '"' if part.quoted else part.name for part in parts)] = None
    return tuple(names)


_CREATE = re.compile(r"^\s*CREATE\s+(UNIQUE\s+)?INDEX\s+(CONCURRENTLY\s+)?(IF\s+NOT\s+EXISTS\s+)?", re.IGNORECASE)
_DROP = re.compile(r"^\s*DROP\s+INDEX\s+(?:CONCURRENTLY\s+)?(?:IF\s+EXISTS\s+)?(?P<name>[^\s,;]+)\s*(?:CASCADE|RESTRICT)?\s*$", re.IGNORECASE)


def created_index(ddl: str) -> str | None:
    """The statement without CONCURRENTLY (the twin is empty), where it creates an index; None otherwise."""
    match = _CREATE.match(ddl)
    return f"CREATE {match[1] or ''}INDEX {match[3] or ''}{ddl[match.end() :]}" if match else None


def dropped_index(ddl: str) -> str | None:
    """The name of the one index that the statement drops; None where it does something else."""
    match = _DROP.match(ddl)
    return match["name"] if match else None
