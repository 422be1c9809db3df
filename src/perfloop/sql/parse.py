"""Text into syntax trees, with the position of what is no SQL."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError, TokenError

from perfloop.errors import UsageError

Dialect = Literal["postgres", "mysql"]
TEXT_MAX_CHARS = 200_000
STATEMENTS_MAX = 200
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # it warns on stderr about syntax that it keeps as raw text; we look for that ourselves

# One alternative for each thing that may hide the end of another; used where the parser gives up.
LEXEMES = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z)|\#[^\n]*)
      | (?P<dollar>\$(?P<tag>[A-Za-z_]\w*)?\$.*?(?:\$(?P=tag)\$|\Z))
      | (?P<dollar0>\$\$.*?(?:\$\$|\Z))
      | (?P<string>(?:\b[eE](?='))'(?:[^'\\]|\\.|'')*(?:'|\Z)|(?:\b(?:[bBxXnN]|[uU]&)(?='))?'(?:[^']|'')*(?:'|\Z))
      | (?P<identifier>"(?:[^"]|"")*(?:"|\Z)|`(?:[^`]|``)*(?:`|\Z))
      | (?P<parameter>\$\d+|%\(\w+\)s|%s|\?)
      | (?P<number>(?<![\w.$])(?:0[xX][0-9a-fA-F]+|(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w$]))
      | (?P<word>[^\W\d][\w$]*)
      | (?P<space>\s+)
      | (?P<sign>.)""",
    re.X | re.S,
)


@dataclass(frozen=True)
class Statement:
    """One statement: its text as written (without what stands before and after it) and its tree."""

    text: str
    tree: exp.Expr


def statements(text: str, dialect: Dialect) -> tuple[Statement, ...]:
    """The statements of a text; UsageError with line and column for what is no SQL, is empty, or exceeds 200,000 characters or 200 statements."""
    if len(text) > TEXT_MAX_CHARS:
        raise UsageError("the SQL text is too long", f"{len(text)} characters; at most {TEXT_MAX_CHARS} are read", "give fewer or shorter statements")
    if "\0" in text:
        raise UsageError("the SQL text holds a NUL character", _at(text, text.index("\0")), "remove it")
    try:
        tokens = sqlglot.tokenize(text, read=dialect)
        trees = [tree for tree in sqlglot.parse(text, read=dialect) if tree is not None and not isinstance(tree, exp.Semicolon)]
    except TokenError:
        raise UsageError(
            "this is no SQL that perfloop can read",
            f"{_at(text, open_quote(text))}: what is opened there is never closed",
            "close the string, identifier or comment",
        ) from None
    except ParseError as error:
        raise _unreadable(text, error) from None
    except (SqlglotError, ValueError) as error:
        raise UsageError("this is no SQL that perfloop can read", type(error).__name__, "check the statement in a database client") from None
    except RecursionError:
        raise UsageError("this is no SQL that perfloop can read", "it is nested too deeply", "give a simpler statement") from None
    texts = _split(text, tokens)
    if not trees or len(texts) != len(trees):
        raise UsageError(
            "there is no SQL statement", "the text is empty or holds only comments" if not trees else "its statements cannot be told apart", "give one SELECT"
        )
    if len(trees) > STATEMENTS_MAX:
        raise UsageError("there are too many statements", f"{len(trees)}; at most {STATEMENTS_MAX} are read", "give fewer statements")
    return tuple(Statement(part, tree) for part, tree in zip(texts, trees, strict=True))


def _unreadable(text: str, error: ParseError) -> UsageError:
    detail = error.errors[0] if error.errors else {}
    line, column = int(detail.get("line") or 1), int(detail.get("col") or 1)
    near = str(detail.get("highlight") or "")[:40]
    # sqlglot tells the column of the token's end
    return UsageError(
        "this is no SQL that perfloop can read",
        f"line {line}, column {max(1, column - max(len(near) - 1, 0))}" + (f", at {near!r}" if near else ", at its end"),
        "check the statement in a database client",
    )


def _split(text: str, tokens: Iterable[Any]) -> list[str]:
    parts: list[list[Any]] = [[]]
    for token in tokens:
        if token.token_type.name == "SEMICOLON":
            parts.append([])
        else:
            parts[-1].append(token)
    return [text[part[0].start : part[-1].end + 1] for part in parts if part]


def open_quote(text: str) -> int:
    """Where the last string, identifier, dollar quote or comment begins that is never closed; the end of the text where all are."""
    for match in LEXEMES.finditer(text):
        if match.end() == len(text) and match.lastgroup in ("string", "identifier", "dollar", "dollar0", "comment", "tag"):
            return match.start()
    return max(0, len(text) - 1)


def _at(text: str, offset: int) -> str:
    before = text[:offset]
    return f"line {before.count(chr(10)) + 1}, column {offset - (before.rfind(chr(10)) + 1) + 1}"
