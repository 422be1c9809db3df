"""Catalogue snapshots: taken at each check, improve, baseline and query, so that ``perfloop query --was`` can ask the planner of then."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfloop.errors import CannotMeasure, PerfloopError
from perfloop.model.base import SCHEMA_VERSION, utc_now
from perfloop.sql import statement_facts
from perfloop.sql.connect import Connection, address_of, connect_readonly, readonly_transaction
from perfloop.store.catalogs import CatalogRow, CatalogStore
from perfloop.store.runs import RunStore
from perfloop.twin import archive
from perfloop.twin.snapshot import Snapshot, take

STATEMENT_TIMEOUT_S = 20.0
STATEMENTS_KEPT = 200


@dataclass(frozen=True)
class Catalog:
    """One snapshot: the planner's knowledge, counters of statements, and the times of queries that were looked at."""

    planner: Snapshot
    taken_at: str
    statements: tuple[dict[str, Any], ...] = ()
    times_ms: dict[str, float] | None = None  # fingerprint → fastest run
    path: str = ""

    def content(self, address: str) -> dict[str, Any]:
        """As it is stored."""
        return {
            "schema_version": SCHEMA_VERSION,
            "taken_at": self.taken_at,
            "address": address,
            "planner": archive.dump(self.planner),
            "statements": list(self.statements),
            "times_ms": self.times_ms or {},
        }

    def table_rows(self) -> dict[str, dict[str, Any]]:
        """The tables by ``schema.table``, no quotes."""
        return {f"{row['bare_schema']}.{row['bare_name']}": row for row in self.planner.tables}


def database_key(dsn: str) -> str:
    """A short hash of where a DSN leads, to tell the snapshots of several databases apart."""
    return hashlib.sha256(str(address_of(dsn)).encode()).hexdigest()[:8]


def read_now(connection: Connection) -> tuple[Catalog, tuple[statement_facts.StatementRow, ...]]:
    """The catalogue as it is now, in one read-only transaction, and the statements with their texts."""
    with readonly_transaction(connection):
        planner = take(connection, archive.table_names(connection), everything=True)
    known = statement_facts.statements(connection)
    return Catalog(planner, utc_now(), tuple(row.stored() for row in known[:STATEMENTS_KEPT])), known


def store_for_run(dsn: str, store: RunStore, owner: str) -> str:
    """Take and store a snapshot for a run; an empty text where it was stored, else why not. Never in the way of the run."""
    try:
        with connect_readonly(dsn, statement_timeout_s=STATEMENT_TIMEOUT_S) as connection:
            catalog, _ = read_now(connection)
        save(store, dsn, owner, catalog)
    except PerfloopError as error:
        return f"no catalogue snapshot was stored: {error.what}" + (f" ({error.why})" if error.why else "")
    return ""


def save(store: RunStore, dsn: str, owner: str, catalog: Catalog) -> Path:
    """Store one; those of baselines are kept."""
    keep = frozenset(row.run_id for row in store.list_runs(1_000) if row.baselines)
    return CatalogStore(store.root).save(owner, database_key(dsn), catalog.content(str(address_of(dsn))), keep)


def load(store: RunStore, row: CatalogRow) -> Catalog:
    """A stored one."""
    content = CatalogStore(store.root).load(row)
    try:
        planner = archive.load(content["planner"])
    except KeyError:
        raise CannotMeasure(f"{row.path.name} holds no planner snapshot", fix="name another one with --was") from None
    return Catalog(planner, str(content.get("taken_at", "")), tuple(content.get("statements", ())), dict(content.get("times_ms", {})), row.path.name)


def find(store: RunStore, wanted: str, dsn: str) -> CatalogRow:
    """The stored snapshot that ``--was`` means."""
    names = {name: row.run_id for row in store.list_runs(1_000) for name in row.baselines}
    return CatalogStore(store.root).find(wanted, database_key(dsn), names)


def earlier(store: RunStore, dsn: str, count: int) -> tuple[CatalogRow, ...]:
    """The newest ``count`` stored snapshots of this database, and the oldest one."""
    rows = CatalogStore(store.root).rows(database_key(dsn))
    return tuple(dict.fromkeys((*reversed(rows[-count:]), *rows[:1])))
