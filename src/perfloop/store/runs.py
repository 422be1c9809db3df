"""The runs of a project, in its ``.perfloop`` folder: SQLite for facts, one folder of files for each run."""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from perfloop.errors import StorageError, UsageError
from perfloop.host.files import read_limited, write_atomic
from perfloop.model.base import SCHEMA_VERSION, Word, utc_now
from perfloop.model.change import Plan
from perfloop.model.evidence import Evidence
from perfloop.model.result import RunResult
from perfloop.store import database, retention
from perfloop.store.paths import MIN_FREE_BYTES, check_free, private_dir

_Stored = TypeVar("_Stored", bound=Word)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FILE_MAX_BYTES = 256 * 2**20

#: from schema version i of a stored file to i + 1: takes and returns its JSON object
UPGRADES: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (lambda fields: fields,)


def _create(connection: sqlite3.Connection) -> None:
    connection.execute(
        "CREATE TABLE runs (number INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT UNIQUE NOT NULL, kind TEXT NOT NULL, created_at TEXT NOT NULL,"
        " state TEXT NOT NULL DEFAULT 'running', ok INTEGER, target_url TEXT NOT NULL DEFAULT '', saved INTEGER NOT NULL DEFAULT 0)"
    )
    connection.execute("CREATE TABLE baselines (name TEXT PRIMARY KEY, run_id TEXT NOT NULL, set_at TEXT NOT NULL)")


MIGRATIONS: tuple[database.Migration, ...] = (_create,)


@dataclass(frozen=True)
class RunRow:
    """One line of the list of runs; ``ok`` is None while nothing was decided."""

    run_id: str
    kind: str
    created_at: str
    state: str
    ok: bool | None
    target_url: str
    baselines: tuple[str, ...] = ()


class RunStore:
    """Saves and finds results, evidence, plans and reports. Files are replaced whole, so that what was saved last can always be read."""

    def __init__(self, project_dir: Path | str) -> None:
        self.root = Path(project_dir).absolute() / ".perfloop"
        self._index = self.root / "index.sqlite"

    def check_writable(self, min_free_bytes: int = MIN_FREE_BYTES) -> None:
        """``StorageError`` where a run could not be stored here: asked before any load or change."""
        private_dir(self.root)
        check_free(self.root, min_free_bytes)
        if not (self.root / ".gitignore").exists():
            write_atomic(self.root / ".gitignore", b"*\n")

    def create(self, kind: str) -> str:
        """A new run of that kind; returns its id, which sorts by time."""
        run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{kind}-{secrets.token_hex(2)}"
        private_dir(self.root)
        private_dir(self.root / "runs" / run_id)
        with database.opened(self._index, MIGRATIONS) as connection:
            connection.execute("INSERT INTO runs (run_id, kind, created_at) VALUES (?, ?, ?)", (run_id, kind, utc_now()))
        return run_id

    def path(self, run_id: str) -> Path:
        """The folder of a run; ``last`` and ``baseline:NAME`` too. ``UsageError`` where there is no such run."""
        return self.root / "runs" / self.find(run_id)

    def save_result(self, result: RunResult) -> None:
        """Replaces ``run.json`` and the run's line in the index."""
        self.save_file(result.run_id, "run.json", result.model_dump_json(indent=1).encode())
        with database.opened(self._index, MIGRATIONS) as connection:
            connection.execute(
                "UPDATE runs SET state = ?, ok = ?, target_url = ?, saved = 1 WHERE run_id = ?",
                (result.state, int(result.ok), result.target.url, result.run_id),
            )

    def save_evidence(self, run_id: str, name: str, evidence: Evidence) -> None:
        """Stores evidence as ``NAME.json`` of the run."""
        self.save_file(run_id, f"{_checked(name)}.json", evidence.model_dump_json().encode())

    def save_plan(self, plan: Plan) -> None:
        """Stores the plan of its run as ``plan.json``."""
        self.save_file(plan.run_id, "plan.json", plan.model_dump_json(indent=1).encode())

    def save_file(self, run_id: str, name: str, data: bytes) -> Path:
        """Stores any file of a run, such as ``report.html``, and returns its path."""
        path = self.root / "runs" / _checked(run_id) / _checked(name)
        write_atomic(path, data, mode=0o600)
        return path

    def load_result(self, run_id: str) -> RunResult:
        """The result of a run: by its id, ``last`` or ``baseline:NAME``."""
        return _load(self.path(run_id) / "run.json", RunResult)

    def load_evidence(self, run_id: str, name: str = "") -> Evidence:
        """Evidence of a run by its name; the last look where none is given."""
        folder = self.path(run_id)
        if name:
            return _load(folder / f"{_checked(name)}.json", Evidence)
        looks = sorted(folder.glob("evidence*.json"), key=lambda path: (len(path.name), path.name))
        if not looks:
            raise UsageError(f"the run {run_id} holds no evidence", why="it was stopped before it looked, or is no check or improve", fix="perfloop check URL")
        return _load(looks[-1], Evidence)

    def load_plan(self, run_id: str) -> Plan:
        """The plan of a run: by the run's id, the plan's id (``plan-RUN``), ``last`` or a path to a plan file."""
        if run_id.endswith(".json") and Path(run_id).is_file():
            return _load(Path(run_id), Plan)
        return _load(self.path(run_id.removeprefix("plan-")) / "plan.json", Plan)

    def set_baseline(self, name: str, run_id: str) -> None:
        """Names a run, so that ``baseline:NAME`` finds it and retention keeps it."""
        found = self.find(run_id)
        with database.opened(self._index, MIGRATIONS) as connection:
            connection.execute("INSERT OR REPLACE INTO baselines (name, run_id, set_at) VALUES (?, ?, ?)", (_checked(name), found, utc_now()))

    def drop_baseline(self, name: str) -> None:
        """Takes a baseline's name away; its run stays. ``UsageError`` where there is no such name."""
        self.find(f"baseline:{name}")
        with database.opened(self._index, MIGRATIONS) as connection:
            connection.execute("DELETE FROM baselines WHERE name = ?", (name,))

    def list_runs(self, limit: int = 200) -> tuple[RunRow, ...]:
        """The newest ``limit`` runs, newest first."""
        if not self._index.exists():
            return ()
        with database.opened(self._index, MIGRATIONS, write=False) as connection:
            rows = connection.execute("SELECT * FROM runs ORDER BY number DESC LIMIT ?", (limit,)).fetchall()
            named = connection.execute("SELECT name, run_id FROM baselines ORDER BY name").fetchall()
        return tuple(
            RunRow(
                row["run_id"],
                row["kind"],
                row["created_at"],
                row["state"],
                None if row["ok"] is None or row["state"] == "running" else bool(row["ok"]),
                row["target_url"],
                tuple(name for name, run_id in named if run_id == row["run_id"]),
            )
            for row in rows
        )

    def find(self, run_id: str) -> str:
        """The id of the run meant by an id, a unique beginning of one, ``last`` or ``baseline:NAME``; ``UsageError`` where there is none."""
        rows: list[sqlite3.Row] = []
        if self._index.exists():
            with database.opened(self._index, MIGRATIONS, write=False) as connection:
                if run_id == "last":
                    rows = connection.execute("SELECT run_id FROM runs WHERE saved ORDER BY number DESC LIMIT 1").fetchall()
                elif run_id.startswith("baseline:"):
                    rows = connection.execute("SELECT run_id FROM baselines WHERE name = ?", (run_id.removeprefix("baseline:"),)).fetchall()
                else:
                    rows = (
                        connection.execute("SELECT run_id FROM runs WHERE substr(run_id, 1, ?) = ? LIMIT 3", (len(run_id), run_id)).fetchall() if run_id else []
                    )
        exact = [row for row in rows if row[0] == run_id] or rows
        if len(exact) == 1:
            return str(exact[0][0])
        why = f"{len(rows)} runs begin like that" if rows else f"{self.root} does not hold it"
        raise UsageError(f"there is no run {run_id!r}", why=why, fix="list the runs: perfloop log; or make one: perfloop check URL")

    def retain(self, disk_max_bytes: int, runs_max: int) -> tuple[str, ...]:
        """Deletes the oldest runs until both limits hold (never a baseline, nor the newest run); returns their ids."""
        if not self._index.exists():
            return ()
        with database.opened(self._index, MIGRATIONS) as connection:
            ids = [row[0] for row in connection.execute("SELECT run_id FROM runs ORDER BY number")]
            keep = frozenset([row[0] for row in connection.execute("SELECT run_id FROM baselines")] + ids[-1:])
            sizes = [(run_id, retention.size_bytes(self.root / "runs" / run_id)) for run_id in ids]
            gone = retention.excess(sizes, keep, disk_max_bytes, runs_max)
            connection.executemany("DELETE FROM runs WHERE run_id = ?", [(run_id,) for run_id in gone])
        for run_id in gone:
            retention.remove(self.root / "runs" / run_id)
        return gone


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name[:80]!r} is no name for a run, a baseline or a file", why="letters, digits, '.', '_' and '-' only, at most 100", fix="choose such a name"
        )
    return name


def _load(path: Path, kind: type[_Stored]) -> _Stored:
    if not path.exists():
        raise UsageError(
            f"{path.parent.name} holds no {path.name}", why="the run ended before it was written, or its verb writes none", fix="list the runs: perfloop log"
        )
    try:
        fields = json.loads(read_limited(path, _FILE_MAX_BYTES))
        version = int(fields.get("schema_version", 1))
        if version > SCHEMA_VERSION:
            raise StorageError(
                f"{path} was written by a newer perfloop",
                why=f"its schema version is {version}, this perfloop knows up to {SCHEMA_VERSION}",
                fix="upgrade perfloop",
            )
        for upgrade in UPGRADES[version:SCHEMA_VERSION]:
            fields = upgrade(fields)
        return kind.model_validate(fields)
    except (ValueError, AttributeError, TypeError) as error:
        detail = f"{error.error_count()} fields do not fit" if isinstance(error, ValidationError) else str(error)
        raise StorageError(f"{path} cannot be read", why=detail, fix="it is damaged or from another version: run the measurement again") from None
