"""Candidate indexes inside a twin: created empty, sized as if they were full, and shown or hidden to the planner by one flag."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from perfloop.errors import UsageError
from perfloop.twin import candidates, files, statistics, text
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


class Workbench:
    """The candidates of one twin. ``notes`` collects what is not exact; ``joint`` tells how many distinct keys several columns have, where that was sampled."""

    def __init__(self, cluster: Cluster, owner_name: str, notes: list[str], joint: candidates.Joint) -> None:
        self._admin = cluster.connect()
        self._owner = cluster.connect(owner_name)
        self._cluster, self._owner_name = cluster, owner_name
        self._data, self._notes, self._joint = cluster.folder / "data", notes, joint
        self._all: dict[int, bool] = {}  # oid → shown now

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
        paths = self.paths()
        return [self._size(index, paths) if index.added else index for index in indexes]

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

    def _size(self, index: Hidden, paths: dict[str, Path]) -> Hidden:
        found = candidates.measure(self._owner, index.oid, self._joint)
        notes = found.notes
        self._notes += [note for note in notes if note not in self._notes]
        relation = {"bare_schema": found.schema, "bare_name": found.name, "relpages": found.shape.pages, "reltuples": found.rows}
        statistics.restore_relations(self._admin, (relation,), lambda what, error: self._notes.append(f"{what}: {error}"))
        if not files.set_shape(paths[found.qualified], found.shape.pages, found.shape.height if found.btree else None):
            self._notes.append(f"index {found.qualified} has an unknown layout")
        return index._replace(name=found.name, table=found.table, pages=found.shape.pages, low=found.pages_low, high=found.pages_high, notes=notes)

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
                known = self._indexes()
                connection.execute(create.encode())
                new = self._indexes() - known
                if not new:
                    raise UsageError("an index of this name exists already", why=statement)
                return Hidden(new.pop(), True)
            row = connection.execute("SELECT to_regclass(%s)::oid", (drop,)).fetchone()
        except psycopg.Error as error:
            raise UsageError("the planner twin refuses this index", why=str(error).strip().split("\n", 1)[0], fix="correct the statement") from error
        if not row or not row[0]:
            raise UsageError(f"there is no index {drop} on the tables of this query")
        self._all[row[0]] = True
        return Hidden(row[0], False)

    def _indexes(self) -> set[int]:
        return {row[0] for row in self._owner.execute("SELECT indexrelid FROM pg_index WHERE indexrelid >= 16384").fetchall()}
