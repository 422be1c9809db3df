"""Turns an empty private server into a planner twin: the schema, then the candidates, then statistics, sizes and heights.

The order matters: an index over an empty table is built at once, and nothing may plan before the metapages are written, because the
server would keep the empty ones in memory. A candidate that comes later is built while its table's file is empty for that moment.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from perfloop.errors import CannotMeasure
from perfloop.twin import files, schema, sizing, statistics, text
from perfloop.twin.candidates import Joint
from perfloop.twin.cluster import Cluster, Within
from perfloop.twin.hidden import Hidden, Workbench
from perfloop.twin.snapshot import Row, Snapshot

if TYPE_CHECKING:
    import psycopg

OWNER = "planner"
SAMPLE_NOISE = 0.02  # two runs of ANALYZE over the same rows move costs by about so much


@dataclass
class Twin:
    """Context manager: a server that plans as the snapshot's target, with any of its candidate indexes shown or hidden.

    ``ddl`` (CREATE INDEX, DROP INDEX) is what :meth:`plan` compares; more candidates may be added later. ``major``: the server to plan with; by default the target's own version where it is installed here.
    ``joint``: (table, columns) → how many distinct keys they have together, where that was sampled. ``shared``: a running cluster's database to build it in.
    """

    snapshot: Snapshot
    ddl: Sequence[str] = ()
    major: int | None = None
    joint: Joint = field(default_factory=dict)
    shared: Within | None = None

    def __enter__(self) -> Twin:
        """Build it. ``UsageError`` for other DDL, ``CannotMeasure`` where the target cannot be imitated here."""
        self.notes: list[str] = list(self.snapshot.notes)
        target = self.snapshot.version // 10_000
        began = time.monotonic()
        self.cluster = self.shared or start(self.snapshot.locale, self.major or target, self.notes)
        if self.cluster.major != target:
            self.notes.append(
                f"the target is PostgreSQL {target}, its twin plans as {self.cluster.major} does: install PostgreSQL {target} here for the same plans"
            )
        try:
            self._admin = self.cluster.connect()
            self.started_s = time.monotonic() - began
            if not self._admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (OWNER,)).fetchone():
                self._admin.execute(f"CREATE ROLE {OWNER} LOGIN".encode())
            self._admin.execute(f'GRANT CREATE ON DATABASE "{self.cluster.database}" TO {OWNER}; GRANT ALL ON SCHEMA public TO {OWNER}'.encode())
            self._owner = self.cluster.connect(OWNER)
            self._owner.add_notice_handler(
                lambda notice: self.notes.append(f"twin: {notice.message_primary}") if notice.severity_nonlocalized == "WARNING" else None
            )
            schema.create(self._owner, self.snapshot, self._failed)
            self._workbench = Workbench(self.cluster, OWNER, self.notes, self.joint)
            self.hidden = self._workbench.create(self.ddl)
            self._workbench.hide([index for index in self.hidden if index.added])
            statistics.restore(self._admin, self.snapshot.stats, self._failed)
            statistics.restore_relations(self._admin, (*self.snapshot.tables, *(index for index in self.snapshot.indexes if index["valid"])), self._failed)
            self._sizes()
            self.hidden = self._workbench.size(self.hidden)
        except BaseException:
            self.cluster.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._workbench.close()
        self._owner.close()
        self._admin.close()
        self.cluster.close()

    def plan(self, query: str, changed: bool) -> dict[str, Any]:
        """The plan with its costs (EXPLAIN, FORMAT JSON), before or after the change; nothing is executed."""
        self._workbench.show({index.oid for index in self.hidden if index.added == changed})
        return explain(self._owner, query)

    def add(self, ddl: Iterable[str]) -> list[Hidden]:
        """More candidates (CREATE INDEX), or indexes that may be hidden (DROP INDEX); created ones stay hidden until they are shown."""
        return self._workbench.add(ddl)

    def show(self, indexes: Collection[Hidden]) -> None:
        """Show exactly these of the candidates, and hide all others."""
        self._workbench.show({index.oid for index in indexes})

    def explain(self, query: str, verbose: bool = False) -> dict[str, Any]:
        """The plan of one statement with what is shown now."""
        return explain(self._owner, query, verbose)

    def range(self, index: Hidden, query: str) -> tuple[float, float, float]:
        """(lowest, expected, highest) cost of a statement with this one index, over what is not known of it; widened by the noise of a sample of statistics."""
        costs = []
        for one in (index, *self._workbench.bounds(index)):
            self.show([one])
            costs.append(float(self.explain(query)["Total Cost"]))
        return min(costs) * (1 - SAMPLE_NOISE), costs[0], max(costs) * (1 + SAMPLE_NOISE)

    def explain_all(self, queries: Sequence[str]) -> list[dict[str, Any]]:
        """The plans of several statements with what is shown now: the server plans one while the other's answer is read."""
        if not all(can_pipeline(self._owner, query) for query in queries):
            return [self.explain(query) for query in queries]
        with self._owner.pipeline():
            cursors = [self._owner.execute(_explain_text(self._owner, query, ["FORMAT JSON"])) for query in queries]
            return [cursor.fetchone()[0][0]["Plan"] for cursor in cursors]  # type: ignore[index]

    def set(self, name: str, value: str) -> None:
        """Plan with another value of a setting from now on."""
        self._owner.execute("SELECT set_config(%s, %s, false)", (name, value))

    def become(self, snapshot: Snapshot) -> None:
        """Plan as another snapshot of the same structure (``structure``): its settings, statistics and rows, without a new build."""
        old, new = dict(self.snapshot.settings), dict(snapshot.settings)
        for name in old.keys() - new.keys():
            self._owner.execute(f'RESET "{name}"'.encode())
        changed = [(name, value) for name, value in snapshot.settings if old.get(name) != value]
        for name, value in changed:
            self._owner.execute("SELECT set_config(%s, %s, false)", (name, value))
        if snapshot.stats != self.snapshot.stats:
            self._admin.execute(b"DELETE FROM pg_statistic WHERE starelid >= 16384")
            statistics.restore(self._admin, snapshot.stats, self._failed)
        if (snapshot.tables, snapshot.indexes) != (self.snapshot.tables, self.snapshot.indexes):
            statistics.restore_relations(self._admin, (*snapshot.tables, *(index for index in snapshot.indexes if index["valid"])), self._failed)
        self.snapshot = snapshot

    def _sizes(self) -> None:
        """Sizes of all relations of the target; heights of its b-trees."""
        paths = self._workbench.paths()
        for table in self.snapshot.tables:
            if table["name"] in paths:
                files.set_size(paths[table["name"]], table["pages"])
        for index in self.snapshot.indexes:
            if not index["valid"] or index["name"] not in paths:
                continue  # it could not be created; said so then
            if not files.set_shape(paths[index["name"]], index["pages"], self._height(index) if index["method"] == "btree" else None):
                self.notes.append(f"index {index['name']} has an unknown layout")

    def _height(self, index: Row) -> int:
        height = self.snapshot.heights.get(index["name"])
        return sizing.height_of(index["pages"]) if height is None else height

    def _failed(self, what: str, error: Exception) -> None:
        self.notes.append(f"{what} is not imitated: {str(error).strip().split(chr(10), 1)[0]}")


def explain(connection: psycopg.Connection[Any], query: str, verbose: bool = False) -> dict[str, Any]:
    """The top node of EXPLAIN's plan of one statement, which must have passed ``single_statement``; never executed.

    A text with ``$1`` … is planned without values: by GENERIC_PLAN since 16, before that as a prepared statement.
    """
    options = ["FORMAT JSON", *(["VERBOSE"] if verbose else [])]
    row = (
        connection.execute(_explain_text(connection, query, options)).fetchone()
        if can_pipeline(connection, query)
        else _explain_prepared(connection, query, options)
    )
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def can_pipeline(connection: psycopg.Connection[Any], query: str) -> bool:
    """True where one statement plans it: it has no ``$1``, or the server plans for unknown values (16 and later)."""
    return connection.info.server_version >= 160000 or not text.has_placeholders(query)


def _explain_text(connection: psycopg.Connection[Any], query: str, options: Sequence[str]) -> bytes:
    generic = ["GENERIC_PLAN"] if text.has_placeholders(query) else []
    return f"EXPLAIN ({', '.join((*options, *generic))}) {query}".encode()


def _explain_prepared(connection: psycopg.Connection[Any], query: str, options: Sequence[str]) -> tuple[Any, ...] | None:
    values = ", ".join(["NULL"] * text.placeholders_max(query))
    with connection.transaction():
        connection.execute(b"SET LOCAL plan_cache_mode = force_generic_plan")
        connection.execute(f"PREPARE perfloop_twin AS {query}".encode())
        row = connection.execute(f"EXPLAIN ({', '.join(options)}) EXECUTE perfloop_twin({values})".encode()).fetchone()
        connection.execute(b"DEALLOCATE perfloop_twin")
    return row


def start(locale: tuple[str, ...], major: int, notes: list[str]) -> Cluster:
    """The server in the target's sort order, or in C where this machine does not know that."""
    try:
        return Cluster(locale, major).__enter__()
    except CannotMeasure as error:
        if "locale" not in error.why:
            raise
        notes.append(f"text is sorted here as in C: {error.why.removeprefix('initdb: ')}")
        return Cluster((locale[0], "--locale=C"), major).__enter__()
