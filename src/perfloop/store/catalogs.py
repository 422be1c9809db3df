"""Catalogue snapshots of a project, in ``.perfloop/catalog``: what the planner knew at some time. Their statistics are personal data: private files, deleted after a while."""

from __future__ import annotations

import gzip
import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from perfloop.errors import StorageError, UsageError
from perfloop.host.files import read_limited, write_atomic
from perfloop.store.paths import private_dir

FILE_MAX_BYTES = 128 * 2**20
KEPT_MAX = 100
KEPT_DAYS = 90
_NAME = re.compile(r"^(?P<stamp>\d{8}-\d{6})(?:-(?P<database>[0-9a-f]{8}))?-(?P<owner>[A-Za-z0-9._-]{1,100})\.json\.gz$")
_DATE = re.compile(r"^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?)?(?:Z)?$")


@dataclass(frozen=True)
class CatalogRow:
    """One stored snapshot: when (UTC), by which run (or ``query``), of which database (a short hash of its address), and its file."""

    at: datetime
    owner: str
    database: str
    path: Path

    @property
    def name(self) -> str:
        """How a person refers to it."""
        return f"{self.owner} of {self.at:%Y-%m-%d %H:%M:%S} UTC"


class CatalogStore:
    """Saves and finds snapshots of one project."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "catalog"

    def save(self, owner: str, database: str, content: dict[str, Any], keep: frozenset[str] = frozenset()) -> Path:
        """Stores a snapshot (0600 in a 0700 folder), then deletes those past 90 days or beyond the newest 100, but none of the runs in ``keep``."""
        private_dir(self.folder.parent)
        private_dir(self.folder)
        path = self.folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{database}-{owner}.json.gz"
        write_atomic(path, gzip.compress(json.dumps(content, separators=(",", ":"), default=str).encode(), 3), mode=0o600)
        self.retain(keep)
        return path

    def rows(self, database: str = "") -> tuple[CatalogRow, ...]:
        """All snapshots, oldest first; of one database where it is given."""
        found = []
        for path in sorted(self.folder.glob("*.json.gz")) if self.folder.is_dir() else ():
            match = _NAME.match(path.name)
            if match and (not database or match["database"] in (None, database)):
                at = datetime.strptime(match["stamp"], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
                found.append(CatalogRow(at, match["owner"], match["database"] or "", path))
        return tuple(found)

    def find(self, wanted: str, database: str, run_of: dict[str, str]) -> CatalogRow:
        """The snapshot meant by a run's id, ``baseline:NAME`` or a baseline's name (``run_of``: name → run), a date (the last one before its end), ``first``, ``last`` or a file."""
        rows = self.rows(database)
        path = Path(wanted)
        if wanted.endswith(".json.gz") and path.is_file():
            match = _NAME.match(path.name)
            stamp = datetime.strptime(match["stamp"], "%Y%m%d-%H%M%S").replace(tzinfo=UTC) if match else datetime.fromtimestamp(path.stat().st_mtime, UTC)
            return CatalogRow(stamp, match["owner"] if match else path.name, "", path)
        if rows and wanted in ("first", "last"):
            return rows[0 if wanted == "first" else -1]
        if _DATE.match(wanted):
            return self._by_date(wanted, rows)
        run = run_of.get(wanted.removeprefix("baseline:"), wanted)
        found = [row for row in rows if row.owner == run] or [row for row in rows if len(run) >= 8 and row.owner.startswith(run)]
        if found:
            return found[-1]
        told = ", ".join(row.name for row in rows[-3:]) or "none of this database"
        raise UsageError(
            f"there is no catalogue snapshot of {wanted!r}",
            why=f"the newest are: {told}",
            fix="give a run's id, a baseline's name or a date (2026-01-31); perfloop check, improve, baseline and query take one each time",
        )

    def _by_date(self, wanted: str, rows: tuple[CatalogRow, ...]) -> CatalogRow:
        at = datetime.fromisoformat(wanted.rstrip("Z").replace(" ", "T")).replace(tzinfo=UTC)
        until = at + timedelta(days=1) if len(wanted) == 10 else at + timedelta(seconds=1)
        before = [row for row in rows if row.at < until]
        if not before:
            first = f"the first is {rows[0].name}" if rows else "there is none of this database"
            raise UsageError(f"there is no catalogue snapshot of {wanted} or before", why=first, fix="give a later date")
        return before[-1]

    def load(self, row: CatalogRow) -> dict[str, Any]:
        """Its content; ``StorageError`` where the file is damaged."""
        try:
            found = json.loads(gzip.decompress(read_limited(row.path, FILE_MAX_BYTES)))
        except (OSError, EOFError, ValueError) as error:
            raise StorageError(f"{row.path} cannot be read", why=str(error), fix="name another snapshot with --was") from None
        if not isinstance(found, dict):
            raise StorageError(f"{row.path} is no catalogue snapshot", fix="name another snapshot with --was")
        return found

    def retain(self, keep: frozenset[str]) -> tuple[str, ...]:
        """Deletes what is too old or too many; returns the names."""
        rows = self.rows()
        oldest = time.time() - KEPT_DAYS * 86_400
        gone = [row for number, row in enumerate(rows) if row.owner not in keep and (row.at.timestamp() < oldest or number < len(rows) - KEPT_MAX)]
        for row in gone:
            row.path.unlink(missing_ok=True)
        return tuple(row.path.name for row in gone)
