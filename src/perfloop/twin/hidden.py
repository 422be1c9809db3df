"""Candidate indexes inside a twin: created empty, sized as if they were full, and shown or hidden to the planner by one flag."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from perfloop.errors import UsageError
from perfloop.twin import candidates, files, inverted, statistics, text
from perfloop.twin.cluster import Cluster

if TYPE_CHECKING:
    import psycopg


class Hidden(NamedTuple):
    """An index that a candidate adds, or an index of the target that may be hidden (``added`` False). ``pages``, ``low`` and ``high`` of a created one are its expected size and the bounds of it."""

    oid: int
    added: bool
    name: str = ""
    table: str = ""
    pages: int = 0
    low: int = 0
    high: int = 0
    notes: tuple[str, ...] = ()


Made = tuple[Hidden, candidates.Measured, candidates.Variant, tuple[str, str] | None]  # …, (name, qualified name) of a copy
_NAMES = """
SELECT c.oid, c.relname::text, quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY(%s::oid[])"""


class Workbench:
    """The candidates of one twin. ``notes`` collects what is not exact; ``joint`` tells how many distinct keys several columns have, where that was sampled."""

    def __init__(self, cluster: Cluster, owner_name: str, notes: list[str], joint: candidates.Joint) -> None:
        self._admin = cluster.connect()
        self._owner = cluster.connect(owner_name)
        self._cluster, self._owner_name = cluster, owner_name
        self._data, self._notes = cluster.folder / "data", notes
        self._all: dict[int, bool] = {}  # oid → shown now
        self._measurer = candidates.Measurer(self._owner, joint)
        self._measured: dict[int, candidates.Measured] = {}
        self._bounds: dict[int, list[Hidden]] = {}

    def create(self, ddl: Iterable[str]) -> list[Hidden]:
        """Create what-if indexes while their tables are empty, or find the indexes that are to be dropped."""
        with self._cluster.connect(self._owner_name) as connection:
            return [self._one(connection, statement) for statement in ddl]

    def close(self) -> None:
        """Its connections."""
        self._owner.close()
        self._admin.close()

    def add(self, ddl: Iterable[str]) -> list[Hidden]:
        """The same after the tables were given their sizes: each new index comes sized and hidden."""
        with self._emptied():
            made = self.create(ddl)
            self.hide([index for index in made if index.added])
        return self.size(made)

    def hide(self, indexes: Sequence[Hidden]) -> None:
        """Hide these, whatever the rest."""
        self._flag([index.oid for index in indexes], False)

    def show(self, oids: Collection[int]) -> None:
        """Show exactly these of the candidates."""
        self._flag([oid for oid, shown in self._all.items() if shown and oid not in oids], False)
        self._flag([oid for oid in oids if not self._all.get(oid, False)], True)

    def size(self, indexes: Sequence[Hidden]) -> list[Hidden]:
        """Give created indexes the size that they would have. A partial one's rows are the planner's own estimate, so its table must have its size."""
        added = [index for index in indexes if index.added]
        if not added:
            return list(indexes)
        paths = self.paths()
        self._measured |= self._measurer.measure([index.oid for index in added], paths.__getitem__)
        sized = self._written([(index, self._measured[index.oid], self._measured[index.oid].best, None) for index in added], paths)
        return [sized.get(index.oid, index) for index in indexes]

    def paths(self) -> dict[str, Path]:
        """Qualified name → file of each relation."""
        rows = self._admin.execute(
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), pg_relation_filepath(c.oid)"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid >= 16384 AND c.relkind IN ('r', 'm', 'i')"
        ).fetchall()
        return {name: self._data / path for name, path in rows if path}

    def _flag(self, oids: Sequence[int], shown: bool) -> None:
        if oids:
            self._admin.execute("UPDATE pg_index SET indisvalid = %s WHERE indexrelid = ANY(%s::oid[])", (shown, list(oids)))
            self._all.update(dict.fromkeys(oids, shown))

    def _written(self, made: Sequence[Made], paths: dict[str, Path]) -> dict[int, Hidden]:
        """Sizes, metapages and statistics of these, all in one go. A name is given for copies."""
        relations, stats, done = [], [], {}
        for index, found, variant, copy in made:
            name, qualified = copy or (found.name, found.qualified)
            self._notes += [note for note in found.notes if note not in self._notes]
            relations.append({"bare_schema": found.schema, "bare_name": name, "relpages": variant.pages, "reltuples": variant.rows})
            stats += [{**row, "relname": name} for row in variant.stats]
            if not _laid_out(paths[qualified], variant):
                self._notes.append(f"index {qualified} has an unknown layout")
            done[index.oid] = index._replace(name=name, table=found.table, pages=variant.pages, low=found.pages_low, high=found.pages_high, notes=found.notes)
        statistics.restore_relations(self._admin, relations, self._failed)
        if stats:
            statistics.restore(self._admin, stats, self._failed)
        return done

    def bounds(self, index: Hidden) -> list[Hidden]:
        """Copies of a created index, each as one of its bounds: empty where its size and statistics are certain."""
        if index.oid not in self._bounds:
            count = len(self._measured[index.oid].others)
            row = self._owner.execute("SELECT pg_get_indexdef(%s)", (index.oid,)).fetchone()
            assert row is not None
            ddl = re.sub(r"^(CREATE (?:UNIQUE )?INDEX) .*? ON (?=\S+ USING )", r"\1 ON ", row[0], count=1)
            with self._emptied():
                made = self.create([ddl] * count)
                self.hide(made)
            found = self._measured[index.oid]
            named = {oid: (bare, qualified) for oid, bare, qualified in self._admin.execute(_NAMES, ([one.oid for one in made],)).fetchall()}
            copies = self._written([(one, found, found.others[number], named[one.oid]) for number, one in enumerate(made)], self.paths())
            self._bounds[index.oid] = [copies[one.oid] for one in made]
        return self._bounds[index.oid]

    def _failed(self, what: str, error: Exception) -> None:
        self._notes.append(f"{what}: {error}")

    @contextmanager
    def _emptied(self) -> Iterator[None]:
        """All heaps with no pages for a moment: building an index would else read them. By another connection than those that plan, which keep files open."""
        query = "SELECT oid, relpages, reltuples, relallvisible, pg_relation_filepath(oid) FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'm')"
        before = self._admin.execute(query.encode()).fetchall()
        sizes = {self._data / row[4]: files.size_of(self._data / row[4]) for row in before}
        for path in sizes:
            files.empty(path)
        try:
            yield
        finally:
            for path, pages in sizes.items():
                files.set_size(path, pages)
            for row in set(before) - set(self._admin.execute(query.encode()).fetchall()):  # CREATE INDEX counts its table's rows
                self._admin.execute("UPDATE pg_class SET relpages = %s, reltuples = %s, relallvisible = %s WHERE oid = %s", (*row[1:4], row[0]))

    def _one(self, connection: psycopg.Connection[Any], statement: str) -> Hidden:
        import psycopg

        statement = text.single_statement(statement)
        create, drop = text.created_index(statement), text.dropped_index(statement)
        if not create and not drop:
            raise UsageError(
                f"the planner twin cannot try {statement.split(maxsplit=1)[0]}",
                why="it tries CREATE INDEX and DROP INDEX",
                fix="try other changes on a copy of the database",
            )
        try:
            if create:
                known = self._newest(connection)
                connection.execute(create.encode())
                new = self._newest(connection)
                if new == known:
                    raise UsageError("an index of this name exists already", why=statement)
                return Hidden(new, True)
            row = connection.execute("SELECT to_regclass(%s)::oid", (drop,)).fetchone()
        except psycopg.Error as error:
            raise UsageError("the planner twin refuses this index", why=str(error).strip().split("\n", 1)[0], fix="correct the statement") from error
        if not row or not row[0]:
            raise UsageError(f"there is no index {drop} on the tables of this query")
        self._all[row[0]] = True
        return Hidden(row[0], False)

    def _newest(self, connection: psycopg.Connection[Any]) -> int:
        row = connection.execute("SELECT coalesce(max(indexrelid::bigint), 0) FROM pg_index").fetchone()
        return int(row[0]) if row else 0


def _laid_out(path: Path, variant: candidates.Variant) -> bool:
    """Give the file its size, and the metapage what the planner reads there."""
    known = True
    if variant.brin:
        known = inverted.write_brin(path, variant.brin)
    elif variant.gin:
        known = inverted.write_gin(path, variant.gin)
    return files.set_shape(path, variant.pages, variant.height) and known
