"""Turns an empty private server into a planner twin: the schema, then the candidates, then statistics, sizes and heights.

The order matters: an index over an empty table is built at once, and nothing may plan before the metapages are written, because the
server would keep the empty ones in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from perfloop.errors import CannotMeasure, UsageError
from perfloop.twin import candidates, files, sizing, text
from perfloop.twin.cluster import Cluster
from perfloop.twin.snapshot import Row, Snapshot

if TYPE_CHECKING:
    import psycopg

OWNER = "planner"
_STATS_TYPES = {
    "null_frac": "real",
    "avg_width": "integer",
    "n_distinct": "real",
    "most_common_freqs": "real[]",
    "correlation": "real",
    "most_common_elem_freqs": "real[]",
    "elem_count_histogram": "real[]",
    "range_empty_frac": "real",
}
_IDENTITY = ("schemaname", "relname", "attname", "inherited")
_NOT_STATS = (*_IDENTITY, "table", "quoted_column", "type")


class Hidden(NamedTuple):
    """An index that a candidate adds (``shown`` after the change) or drops (shown before it)."""

    oid: int
    added: bool
    pages: int = 0


@dataclass
class Twin:
    """Context manager: a server that plans as the snapshot's target, before and after ``ddl`` (CREATE INDEX, DROP INDEX)."""

    snapshot: Snapshot
    ddl: Sequence[str] = ()

    def __enter__(self) -> Twin:
        """Build it. ``UsageError`` for other DDL, ``CannotMeasure`` where the target cannot be imitated here."""
        self.notes: list[str] = list(self.snapshot.notes)
        self.cluster = _start(self.snapshot.locale, self.notes)
        try:
            self._admin = self.cluster.connect()
            self._admin.execute(f"CREATE ROLE {OWNER} LOGIN".encode())
            self._admin.execute(f"GRANT CREATE ON DATABASE postgres TO {OWNER}; GRANT ALL ON SCHEMA public TO {OWNER}".encode())
            self._owner = self.cluster.connect(OWNER)
            self._owner.add_notice_handler(
                lambda notice: self.notes.append(f"twin: {notice.message_primary}") if notice.severity_nonlocalized == "WARNING" else None
            )
            self._schema()
            self.hidden = [self._candidate(statement) for statement in self.ddl]
            self._statistics()
            self._sizes()
        except BaseException:
            self.cluster.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._owner.close()
        self._admin.close()
        self.cluster.close()

    def plan(self, query: str, changed: bool) -> dict[str, Any]:
        """The plan with its costs (EXPLAIN, FORMAT JSON), before or after the change; nothing is executed."""
        for index in self.hidden:
            self._admin.execute("UPDATE pg_index SET indisvalid = %s WHERE indexrelid = %s", (index.added == changed, index.oid))
        return explain(self._owner, query)

    def _schema(self) -> None:
        snapshot = self.snapshot
        for name, value in snapshot.settings:
            self._try("SELECT set_config(%s, %s, false)", f"setting {name}", (name, value))
        for schema in snapshot.schemas:
            self._run(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        for statement in snapshot.types:
            self._run(statement)
        for table in snapshot.tables:
            columns = ", ".join(row["definition"] for row in snapshot.columns if row["oid"] == table["oid"])
            self._run(f"CREATE TABLE {table['name']} ({columns})" + (f" WITH ({table['options']})" if table["options"] else ""))
        keys = {row["index_oid"]: row for row in snapshot.constraints if row["kind"] != "f"}
        for index in snapshot.indexes:
            key = keys.get(index["oid"])
            if index["valid"]:
                self._try(
                    f"ALTER TABLE {key['table']} ADD CONSTRAINT {key['name']} {key['definition']}" if key else index["definition"], f"index {index['name']}"
                )
        for key in snapshot.constraints:
            if key["kind"] == "f":
                self._try(f"ALTER TABLE {key['table']} ADD CONSTRAINT {key['name']} {key['definition']}", f"foreign key {key['name']}")
        for name, definition in snapshot.views:
            self._run(f"CREATE VIEW {name} AS {definition}")

    def _candidate(self, statement: str) -> Hidden:
        """Create a what-if index while its table is empty, or find the index that is to be dropped."""
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
                self._owner.execute(create.encode())
                new = self._indexes() - known
                if not new:
                    raise UsageError("an index of this name exists already", why=statement)
                return Hidden(new.pop(), True)
            row = self._owner.execute("SELECT to_regclass(%s)::oid", (drop,)).fetchone()
        except psycopg.Error as error:
            raise UsageError("the planner twin refuses this index", why=_first_line(error), fix="correct the statement") from error
        if not row or not row[0]:
            raise UsageError(f"there is no index {drop} on the tables of this query")
        return Hidden(row[0], False)

    def _indexes(self) -> set[int]:
        return {row[0] for row in self._owner.execute("SELECT indexrelid FROM pg_index WHERE indexrelid >= 16384").fetchall()}

    def _statistics(self) -> None:
        for row in self.snapshot.stats:
            given = [(name, value) for name, value in row.items() if value is not None and name not in _NOT_STATS]
            values = ", ".join(f"'{name}', %s::{_STATS_TYPES.get(name, 'text')}" for name, _ in given)
            query = f"SELECT pg_restore_attribute_stats('schemaname', %s::text, 'relname', %s::text, 'attname', %s::text, 'inherited', %s::boolean, {values})"
            self._try(query, f"statistics of {row['relname']}.{row['attname']}", (*(row[name] for name in _IDENTITY), *(value for _, value in given)))
        for relation in (*self.snapshot.tables, *(index for index in self.snapshot.indexes if index["valid"])):
            visible, frozen = relation.get("relallvisible", 0), relation.get("relallfrozen", 0)
            self._relation_stats(relation["bare_schema"], relation["bare_name"], relation["relpages"], relation["reltuples"], visible, frozen)

    def _relation_stats(self, schema: str, name: str, pages: int, rows: float | str, visible: int = 0, frozen: int = 0) -> None:
        self._try(
            "SELECT pg_restore_relation_stats('schemaname', %s::text, 'relname', %s::text, 'relpages', %s::integer, 'reltuples', %s::real,"
            " 'relallvisible', %s::integer, 'relallfrozen', %s::integer)",
            f"statistics of {name}",
            (schema, name, pages, rows, visible, frozen),
        )

    def _sizes(self) -> None:
        """Sizes of all relations, then of the candidates: a partial one's rows are the planner's own estimate, so its table must be sized first."""
        for table in self.snapshot.tables:
            files.set_size(self._file(table["name"]), table["pages"])
        for index in self.snapshot.indexes:
            if index["valid"]:
                self._size_index(index["name"], index["pages"], self._height(index) if index["method"] == "btree" else None)
        for position, hidden in enumerate(self.hidden):
            if hidden.added:
                self._admin.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s", (hidden.oid,))
                self.hidden[position] = self._size_candidate(hidden)

    def _height(self, index: Row) -> int:
        height = self.snapshot.heights.get(index["name"])
        return sizing.height_of(index["pages"]) if height is None else height

    def _size_candidate(self, hidden: Hidden) -> Hidden:
        found = candidates.measure(self._owner, hidden.oid)
        self.notes += found.notes
        self._relation_stats(found.schema, found.name, found.shape.pages, found.rows)
        self._size_index(found.qualified, found.shape.pages, found.shape.height if found.btree else None)
        return hidden._replace(pages=found.shape.pages)

    def _size_index(self, name: str, pages: int, height: int | None) -> None:
        path = self._file(name)
        if path is None:
            return  # it could not be created; said so then
        if height is not None and pages > 1 and not files.set_height(path, min(height, pages - 2)):
            self.notes.append(f"index {name} has an unknown layout")
        files.set_size(path, pages)

    def _file(self, name: str) -> Any:
        row = self._admin.execute("SELECT pg_relation_filepath(to_regclass(%s))", (name,)).fetchone()
        return self.cluster.folder / "data" / row[0] if row and row[0] else None

    def _run(self, statement: str) -> None:
        import psycopg

        try:
            self._owner.execute(statement.encode())
        except psycopg.Error as error:
            raise CannotMeasure(
                "the planner twin cannot imitate this target", why=_first_line(error), fix="try the change on a copy of the database"
            ) from error

    def _try(self, statement: str, what: str, parameters: Iterable[Any] | None = None) -> None:
        import psycopg

        try:
            self._owner.execute(statement.encode(), tuple(parameters) if parameters is not None else None)
        except psycopg.Error as error:
            self.notes.append(f"{what} is not imitated: {_first_line(error)}")


def explain(connection: psycopg.Connection[Any], query: str, verbose: bool = False) -> dict[str, Any]:
    """The top node of EXPLAIN's plan of one statement, which must have passed ``single_statement``; never executed."""
    options = ["FORMAT JSON", *(["GENERIC_PLAN"] if text.has_placeholders(query) else []), *(["VERBOSE"] if verbose else [])]
    row = connection.execute(f"EXPLAIN ({', '.join(options)}) {query}".encode()).fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def _start(locale: tuple[str, ...], notes: list[str]) -> Cluster:
    """The server in the target's sort order, or in C where this machine does not know that."""
    try:
        return Cluster(locale).__enter__()
    except CannotMeasure as error:
        if "locale" not in error.why:
            raise
        notes.append(f"text is sorted here as in C: {error.why.removeprefix('initdb: ')}")
        return Cluster((locale[0], "--locale=C")).__enter__()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
