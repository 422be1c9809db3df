"""Indexes worth trying for a workload: from its qualified predicates, table by table. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from perfloop.sql.predicates import TablePredicates, predicates

INCLUDE_MAX = 5
KEYS_MAX = 4
PER_TABLE_MAX = 30
WORD = re.compile(r"[A-Za-z_][\w$]*")


@dataclass(frozen=True)
class Candidate:
    """A b-tree on ``keys`` (column, descending), with columns carried along for index-only scans; or one of another method, on an expression, or for some rows.

    ``raw`` is the text of the keys where they are no plain columns; ``keys`` then name the columns that it is about.
    """

    table: str
    keys: tuple[tuple[str, bool], ...]
    include: tuple[str, ...] = ()
    method: str = "btree"
    raw: str = ""
    where: str = ""

    @property
    def plain(self) -> bool:
        """True for a b-tree of columns over all rows."""
        return self.method == "btree" and not self.raw and not self.where

    def may_serve(self, words: Collection[str]) -> bool:
        """False where a query of these words (in lower case) does not even name its first column: it could at best read the index from end to end."""
        return self.keys[0][0].lower() in words

    @property
    def name(self) -> str:
        """Its own name, the same each time: the columns, and a few digits of all that it is."""
        body = self._body()
        words = "_".join(["idx", self.table.rpartition(".")[2], *(column for column, _ in self.keys)])
        return f"{words.encode()[:54].decode(errors='ignore')}_{hashlib.sha256(body.encode()).hexdigest()[:8]}"

    def ddl(self, concurrently: bool = True) -> str:
        """The statement, every identifier quoted."""
        return f"CREATE INDEX {'CONCURRENTLY ' if concurrently else ''}{_quoted(self.name)} ON {self._body()}"

    def undo(self) -> str:
        """The statement that takes it away again."""
        schema = self.table.rpartition(".")[0]
        return f"DROP INDEX CONCURRENTLY {_quoted(schema) + '.' if schema else ''}{_quoted(self.name)}"

    def _body(self) -> str:
        keys = self.raw or ", ".join(_quoted(column) + (" DESC" if descending else "") for column, descending in self.keys)
        include = f" INCLUDE ({', '.join(map(_quoted, self.include))})" if self.include else ""
        using = "" if self.method == "btree" else f"USING {self.method} "
        where = f" WHERE {self.where}" if self.where else ""
        return f"{'.'.join(_quoted(part) for part in self.table.split('.', 1))} {using}({keys}){include}{where}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def candidates(queries: Iterable[str], schema: Mapping[str, Sequence[str]], existing: Mapping[str, Sequence[Sequence[str]]]) -> tuple[Candidate, ...]:
    """Those of all queries without what exists as the beginning of an index already; the ones that most queries want first. ``existing``: table → key columns of its indexes."""
    wanted: dict[Candidate, int] = {}
    for text in queries:
        words = {word.lower() for word in WORD.findall(text)}
        for found in predicates(text, "postgres", schema):
            used = [column for column in schema.get(found.table, ()) if column.lower() in words]
            for candidate in _of_table(found, used):
                wanted[candidate] = wanted.get(candidate, 0) + 1
    kept: dict[str, list[Candidate]] = {}
    for candidate in sorted(wanted, key=lambda one: (-wanted[one], len(one.keys), one.keys, one.include)):
        columns = [column for column, _ in candidate.keys]
        covered = not candidate.include and any(list(keys[: len(columns)]) == columns for keys in existing.get(candidate.table, ()))
        of_table = kept.setdefault(candidate.table, [])
        if not covered and len(of_table) < PER_TABLE_MAX:
            of_table.append(candidate)
    return tuple(candidate for of_table in kept.values() for candidate in of_table)


def _of_table(found: TablePredicates, used: Sequence[str]) -> Iterable[Candidate]:
    """Equality first, then one range or the order; joins as equality; each of them again with what the query reads beside it."""
    equal = list(dict.fromkeys((*found.equality, *found.in_list)))
    joins = [column for column in found.join if column not in equal]
    sets: dict[tuple[tuple[str, bool], ...], None] = {}

    def add(columns: Sequence[str], order: Sequence[tuple[str, bool]] = ()) -> None:
        keys = (*((column, False) for column in dict.fromkeys(columns)), *((column, down) for column, down in order if column not in columns))
        if 0 < len(keys) <= KEYS_MAX:
            sets[keys] = None

    for column in (*equal, *joins, *found.range):
        add([column])
    for pair in permutations((*equal, *joins)[:4], 2):
        add(pair)
    add(equal)
    for column in found.range:
        add([*equal, column])
        for join in joins:
            add([join, *equal, column])
            add([*equal, column, join])
    for join in joins:
        add([*equal, join])
        add([join, *equal])
    if found.order:
        add(equal, found.order)
    for keys in sets:
        yield Candidate(found.table, keys)
        rest = tuple(sorted(set(used) - {column for column, _ in keys}))
        if rest and len(rest) <= INCLUDE_MAX:
            yield Candidate(found.table, keys, rest)
