"""Statements and commands as they are sent: their values bound apart from the text, and both walls of the guard before them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from perfloop.errors import UsageError
from perfloop.load.engines.reply import ReplyError
from perfloop.sql.guard import check_load_sql
from perfloop.sql.parse import LEXEMES, Dialect

CACHE_MAX = 10_000
DIALECTS: dict[str, Dialect] = {"postgresql": "postgres", "mysql": "mysql"}
_HOLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}|\{(?P<low>\d+)\.\.(?P<high>\d+)\}")
_DRIVER_HOLE = re.compile(r"%(s|%)")
_QUOTED = ("string", "dollar", "dollar0", "identifier", "comment")
_GOLDEN = (sqrt(5) - 1) / 2
Value = Callable[[Mapping[str, Any], int], Any]


@dataclass(frozen=True)
class Statement:
    """A statement as the driver takes it, and what is bound to its ``%s``: functions of a user's variables and of the iteration's number."""

    text: str
    values: tuple[Value, ...] = ()
    guarded: str = ""  # as the guard read it


def statement_of(text: str, dialect: Dialect, writes_allowed: bool) -> Statement:
    """A declared statement, with ``${name}`` and ``{a..b}`` as bound values; ``UsageError`` where the guard refuses it, or a value stands in quotes."""
    values: list[Value] = []
    sent, guarded, at = "", "", 0
    quoted = [match.span() for match in LEXEMES.finditer(text) if match.lastgroup in _QUOTED or match.lastgroup == "tag"]
    for match in _HOLE.finditer(text):
        _refuse_quoted(match, quoted)
        sent += text[at : match.start()].replace("%", "%%") + "%s"
        guarded += text[at : match.start()] + _parameter(len(values) + 1, dialect)
        at = match.end()
        values.append(_value(match, len(values)))
    guarded += text[at:]
    guard(guarded, dialect, writes_allowed)
    return Statement(sent + text[at:].replace("%", "%%") if values else text, tuple(values), guarded)


def check_statement(text: str, bound: bool, dialect: Dialect, writes_allowed: bool) -> None:
    """A statement of a script, with ``%s`` for each value where there are any; ``UsageError`` as above."""
    if not bound:
        guard(text, dialect, writes_allowed)
        return
    quoted = [match.span() for match in LEXEMES.finditer(text) if match.lastgroup in _QUOTED or match.lastgroup == "tag"]
    number = 0

    def plain(match: re.Match[str]) -> str:
        nonlocal number
        if match[1] == "%":
            return "%"
        _refuse_quoted(match, quoted)
        number += 1
        return _parameter(number, dialect)

    guard(_DRIVER_HOLE.sub(plain, text), dialect, writes_allowed)


def guard(text: str, dialect: Dialect, writes_allowed: bool) -> None:
    """``UsageError`` for what a load test must not send; one statement at a time."""
    found = check_load_sql(text, dialect, writes_allowed=writes_allowed)
    if len(found.statements) != 1:
        raise UsageError("a step sends one statement", why=f"there are {len(found.statements)}", fix="make a step of each")


@dataclass(frozen=True)
class Command:
    """A Redis command: its words, in which variables and numbers are filled in."""

    words: tuple[str, ...]

    def filled(self, variables: Mapping[str, Any], number: int) -> tuple[str, ...]:
        """The words of one iteration."""
        return tuple(_fill(word, variables, number, place) for place, word in enumerate(self.words))


def command_of(text: str) -> Command:
    """A declared command: words as a shell splits them. ``UsageError`` where there are none."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"the command {text[:80]!r} cannot be read", why=str(error), fix="write it as redis-cli takes it: GET order:1") from error
    if not words or _HOLE.search(words[0]):
        raise UsageError(f"the command {text[:80]!r} has no name", fix="write it as redis-cli takes it: GET order:1")
    return Command(tuple(words))


class Commands:
    """What a Redis server says of its own commands: which read, which write, which are the administrator's."""

    def __init__(self, flags: Mapping[str, frozenset[str]], writes_allowed: bool) -> None:
        self._flags, self._writes_allowed = flags, writes_allowed
        self._sound: set[tuple[str, str]] = set()

    def check(self, words: Sequence[Any]) -> None:
        """``UsageError`` for a command that a load test must not send."""
        name = str(words[0]).lower()
        sub = str(words[1]).lower() if len(words) > 1 and f"{name}|{str(words[1]).lower()}" in self._flags else ""
        if (name, sub) in self._sound:
            return
        shown = f"{name} {sub}".strip().upper()
        flags = self._flags.get(f"{name}|{sub}" if sub else name)
        if flags is None:
            raise UsageError(f"the server does not know the command {shown[:80]}", fix="check it with redis-cli")
        if refused := flags & {"admin", "pubsub", "blocking"} or (name in _DANGEROUS and {name}):
            raise UsageError(f"{shown} is refused", why=f"it is {', '.join(sorted(refused))}: no load for a server that others use", fix="use commands on keys")
        if not (flags & {"readonly"} or name in _HARMLESS or self._writes_allowed):
            raise UsageError(
                f"{shown} may write",
                why="a load test must not change the data that it measures",
                fix="use reads only, or set target.allow_writes on a target that is a sandbox",
            )
        self._sound.add((name, sub))


_HARMLESS = frozenset(("ping", "echo", "time"))
_DANGEROUS = frozenset(("flushall", "flushdb", "swapdb", "script", "function", "multi", "exec", "select", "auth", "hello", "quit", "reset", "client"))


def _refuse_quoted(match: re.Match[str], quoted: Sequence[tuple[int, int]]) -> None:
    if any(begin <= match.start() < end for begin, end in quoted):
        raise UsageError(
            f"{match[0]} stands in quotes or a comment",
            why="values are bound apart from the text, so they need no quotes",
            fix=f"write name = {match[0]}, and 'a%' || {match[0]} or concat('a', {match[0]}) for a part of a text",
        )


def _parameter(number: int, dialect: Dialect) -> str:
    return f"${number}" if dialect == "postgres" else "?"


def _value(match: re.Match[str], place: int) -> Value:
    if name := match["name"]:
        return lambda variables, number: _variable(name, variables)
    low, high = _range(match)
    return lambda variables, number: _spread(low, high, number, place)


def _range(match: re.Match[str]) -> tuple[int, int]:
    low, high = int(match["low"]), int(match["high"])
    if high < low:
        raise UsageError(f"the range {match[0]} is empty", fix=f"write {{{high}..{low}}}")
    return low, high


def _spread(low: int, high: int, number: int, place: int) -> int:
    """Neighbouring numbers of iterations get values far apart, and all of the range is used: multiples of the golden ratio."""
    return low + int(number * _GOLDEN * (place + 1) % 1.0 * (high - low + 1))


def _variable(name: str, variables: Mapping[str, Any]) -> Any:
    if name not in variables:
        raise ReplyError(f"there is no variable {name}: neither a column of a feed nor extracted before", "script")
    return variables[name]


def _fill(word: str, variables: Mapping[str, Any], number: int, place: int) -> str:
    def one(match: re.Match[str]) -> str:
        return str(_variable(match["name"], variables)) if match["name"] else str(_spread(*_range(match), number, place))

    return _HOLE.sub(one, word) if "{" in word else word
