"""One text for all executions of a query: literals replaced by ``?``, lists collapsed. No literal ever remains, also where the text is no SQL or cut off."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from perfloop.sql.parse import LEXEMES, TEXT_MAX_CHARS, Dialect
from perfloop.sql.predicates import TablePredicates as TablePredicates
from perfloop.sql.predicates import predicates as predicates

_LIST = re.compile(r"\(\s*\?(?:\s*,\s*\?)+\s*\)")
_ROWS = re.compile(r"(\((?:\?|DEFAULT|NULL|, )+\))(?:, \((?:\?|DEFAULT|NULL|, )+\))+")


@lru_cache(maxsize=4096)
def normalize(text: str, dialect: Dialect = "postgres") -> str:
    """The query without literals, comments and line breaks: ``SELECT * FROM t WHERE id = ? AND k IN (?)``. Never raises; the same text gives the same result."""
    text = text[:TEXT_MAX_CHARS]
    try:
        trees = [tree for tree in sqlglot.parse(text, read=dialect) if tree is not None]
        if trees and not any(tree.find(exp.Command) for tree in trees):
            return "; ".join(_without_literals(tree).sql(dialect=dialect, comments=False, normalize_functions=False) for tree in trees)
    except (SqlglotError, RecursionError, ValueError, AttributeError, TypeError, IndexError, KeyError):
        pass  # texts in pg_stat_activity are cut off at track_activity_query_size, so this is ordinary
    return _by_lexemes(text)


def fingerprint(text: str, dialect: Dialect = "postgres") -> str:
    """Sixteen hexadecimal digits that are the same for all executions of a query, whatever its literals, letter case of keywords, and spacing."""
    return hashlib.sha256(normalize(text, dialect).encode()).hexdigest()[:16]


def _without_literals(tree: exp.Expr) -> exp.Expr:
    def hide(node: exp.Expr) -> exp.Expr:
        if isinstance(
            node,
            (
                exp.Literal,
                exp.RawString,
                exp.National,
                exp.ByteString,
                exp.HexString,
                exp.BitString,
                exp.UnicodeString,
                exp.Heredoc,
                exp.JSONPath,
                exp.Parameter,
                exp.Placeholder,
            ),
        ):
            return exp.Var(this="?")
        if isinstance(node, exp.Neg) and isinstance(node.this, (exp.Literal, exp.Placeholder, exp.Parameter)):
            return exp.Var(this="?")
        return node

    tree = tree.transform(hide)
    for node in list(tree.find_all(exp.In, exp.Values, exp.Array)):
        items = node.expressions
        if len(items) > 1 and all(_is_hidden(item) for item in items):
            node.set("expressions", items[:1])
    return tree


def _is_hidden(node: exp.Expr) -> bool:
    if isinstance(node, exp.Tuple):
        return all(_is_hidden(item) for item in node.expressions)
    if isinstance(node, exp.Cast):
        return _is_hidden(node.this)
    return isinstance(node, (exp.Null, exp.Boolean)) or (isinstance(node, exp.Var) and node.name == "?")


def _by_lexemes(text: str) -> str:
    """The same by a scanner of our own, for text that no parser reads."""
    words: list[str] = []
    for match in LEXEMES.finditer(text):
        kind = match.lastgroup
        if kind in ("string", "dollar", "dollar0", "tag", "number", "parameter"):
            words.append("?")
        elif kind == "identifier":
            closed = len(match[0]) > 1 and match[0][-1] == match[0][0]
            words.append(match[0] if closed else "?")
        elif kind in ("word", "sign"):
            words.append(match[0])
    joined = ""
    previous = ""
    for word in words:
        glue = "" if not joined or previous in (".", "(", "::", ":") or word in (",", ")", ".", ";", ":") or (word == "(" and previous.isidentifier()) else " "
        joined += glue + word
        previous = word
    return _ROWS.sub(r"\1", _LIST.sub("(?)", joined))
