"""Fifty faults while an index is built, under the journal, on a table that is written to: what is left, who waited, and whether the record is whole.

Resumable: each trial is kept in ``builds.json`` of the bench's folder. The faults: the perfloop is killed, its backend is terminated, a lock is not had in time, an old
snapshot is held (in some with a migration queueing behind the build), the disk fills up (a small tmpfs as tablespace; needs root).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from bench.database_tools.options import Options
from bench.database_tools.server import Server
from bench.table import Row
from perfloop.change.building import QUEUE_MAX_S
from perfloop.loop.recover import recover
from perfloop.model.change import ChangeState
from perfloop.store.audit import AuditLog
from perfloop.store.journal import Journal

ROOT = Path(__file__).parents[2]
DRIVER = ROOT / "tests" / "crash" / "driver.py"
FAULTS = ("killed", "terminated", "lock", "snapshot", "disk")
OF_EACH = 10
LEFT_S = 230.0
DISK_MB = 128
HELD_S = 9.0
SLACK_S = 1.0  # of a writer's wait, for a machine that others use as well
SETUP = """
create table ledger (id int primary key, account text not null, amount numeric not null, touched int not null default 0);
insert into ledger select i, md5(i::text), i % 1000, 0 from generate_series(1, 500000) i;
create table beside (id int);
vacuum analyze ledger
"""


@dataclass
class Trial:
    """One fault and what came of it."""

    fault: str
    number: int
    state: str = ""
    left: list[str] = field(default_factory=list)
    waited_s: float = 0.0
    writes: int = 0
    complete: bool = False
    idempotent: bool = False
    told: str = ""

    @property
    def ok(self) -> bool:
        return not self.left and self.waited_s <= QUEUE_MAX_S + SLACK_S and self.complete and self.idempotent


def rows(options: Options) -> list[Row]:
    """All rows of the group."""
    kept = options.work / "builds.json"
    done: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    began = time.monotonic()
    with Server(options.work, "builds", 15) as server:
        name = _database(server)
        for number in range(OF_EACH):
            for fault in FAULTS:
                key = f"{fault} {number}"
                if key in done or time.monotonic() - began > LEFT_S:
                    continue
                trial = _Trial(server, name, options.work, Trial(fault, number)).run()
                done[key] = {**trial.__dict__, "ok": trial.ok}
                print(
                    f"  {'ok' if trial.ok else 'NO'}  {key}: {trial.state}, waited {trial.waited_s:.2f} s in {trial.writes} writes, left {trial.left}, complete {trial.complete}, idempotent {trial.idempotent} {trial.told[:100]}",
                    flush=True,
                )
                kept.write_text(json.dumps(done, indent=1))
    return _rows(list(done.values()))


def _rows(done: list[dict[str, Any]]) -> list[Row]:
    whole = len(done) == OF_EACH * len(FAULTS)
    why = "" if whole else f"{len(done)} of {OF_EACH * len(FAULTS)} were made so far"
    struck = f"{sum(one['state'] == 'undone' for one in done)} undone, {sum(one['state'] == 'kept' for one in done)} came too late and were kept"

    def row(measure: str, value: float, unit: str, needed: str, ok: bool, more: str = "") -> Row:
        return Row(f"{len(done)} faults during index builds: {measure}", value, unit, needed, ok if whole else None, why=why or more)

    left = sum(bool(one["left"]) for one in done)
    waited = max((one["waited_s"] for one in done), default=0.0)
    return [
        row("invalid or unwanted indexes left", left, "", "0", left == 0, struck),
        row(
            "longest wait of a writer",
            round(waited, 2),
            "s",
            f"<= {QUEUE_MAX_S + SLACK_S:g}",
            waited <= QUEUE_MAX_S + SLACK_S,
            f"budget {QUEUE_MAX_S:g} s; {sum(one['writes'] for one in done)} writes meanwhile",
        ),
        row("journal closed and audit complete", sum(one["complete"] for one in done), "", f"{len(done)}", all(one["complete"] for one in done)),
        row(
            "resume idempotent: recovered twice, then built again",
            sum(one["idempotent"] for one in done),
            "",
            f"{len(done)}",
            all(one["idempotent"] for one in done),
        ),
    ]


def _database(server: Server) -> str:
    with server.connect() as owner:
        if not owner.execute("select 1 from pg_database where datname = 'builds'").fetchone():
            owner.execute("create database builds")
            with server.connect(database="builds") as loader:
                for statement in SETUP.split(";"):
                    loader.execute(statement.encode())
    return "builds"


class _Trial:
    """Runs one."""

    def __init__(self, server: Server, database: str, work: Path, trial: Trial) -> None:
        self.server, self.database, self.trial = server, database, trial
        self.random = random.Random(f"{trial.fault} {trial.number}")
        self.stop = threading.Event()
        self.folder = Path(tempfile.mkdtemp(prefix="plb-builds-"))
        self.state = self.folder / "state"
        self.wait_max_s = 2 if trial.fault in ("lock", "snapshot") else 20

    def connect(self) -> psycopg.Connection[Any]:
        return self.server.connect(database=self.database)

    def run(self) -> Trial:
        with self.connect() as owner, self._tablespace(owner):
            writer = threading.Thread(target=self._write, daemon=True)
            writer.start()
            try:
                with self._held():
                    process = self._start()
                    self._strike(owner, process)
                    code = self._ended(process)
                self._check(owner, code)
            finally:
                self.stop.set()
                writer.join(30)
                for (name,) in owner.execute(
                    "select indexrelid::regclass::text from pg_index where indrelid = 'ledger'::regclass and not indisprimary"
                ).fetchall():
                    owner.execute(f"drop index {name}".encode())
        return self.trial

    def _start(self) -> subprocess.Popen[str]:
        order = {
            "kind": "postgres-index",
            "dir": str(self.folder),
            "params": {
                "schema": "public",
                "table": "ledger",
                "columns": [["account", "asc"], ["amount", "desc"]],
                "dsn_ref": "env:BUILDS_ADMIN",
                "wait_max_s": self.wait_max_s,
            },
            "config": {"target": {"url": "http://127.0.0.1:1"}, "measure": {"pairs_window_s": 1}},
        }
        os.environ["BUILDS_ADMIN"] = self.server.dsn("postgres", self.database)
        environment = {**os.environ, "PERFLOOP_STATE_DIR": str(self.state), "PYTHONPATH": f"{ROOT / 'src'}"}
        return subprocess.Popen(
            [sys.executable, str(DRIVER), json.dumps(order)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder
        )

    def _strike(self, owner: psycopg.Connection[Any], process: subprocess.Popen[str]) -> None:
        """Wait until the build runs, and a random moment more; then the fault."""
        building = "select pid from pg_stat_activity where application_name like 'perfloop:chg%' and query like 'CREATE INDEX%' and state = 'active'"
        until = time.monotonic() + 30
        while not (found := owner.execute(building.encode()).fetchone()) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(self.random.uniform(0.0, 0.15 if self.trial.fault == "disk" else 0.6))
        if self.trial.fault == "killed":
            process.send_signal(signal.SIGKILL)
        elif self.trial.fault == "terminated" and found:
            owner.execute("select pg_terminate_backend(%s)", (found[0],))
        elif self.trial.fault == "disk":
            with suppress(OSError), (self.disk / "filler").open("wb") as file:
                while True:
                    file.write(bytes(1 << 16))

    def _ended(self, process: subprocess.Popen[str]) -> int:
        try:
            _, told = process.communicate(timeout=100)
        except subprocess.TimeoutExpired:
            process.kill()
            _, told = process.communicate()
            told += " it did not end in 100 s"
        self.trial.told = " ".join(told.split())
        return process.returncode

    def _check(self, owner: psycopg.Connection[Any], code: int) -> None:
        trial, journal = self.trial, Journal(self.state)
        until = time.monotonic() + 40
        while journal.open_entries() and time.monotonic() < until:
            time.sleep(0.05)
        states = {entry.state.value for entry in journal.entries()}
        trial.state = "/".join(sorted(states)) if states else f"never opened, exit {code}"
        wanted = {"valid"} if states == {ChangeState.KEPT.value} else set()
        found = owner.execute(
            "select i.indexrelid::regclass::text, i.indisvalid and i.indisready from pg_index i where i.indrelid = 'ledger'::regclass and not i.indisprimary"
        ).fetchall()
        trial.left = [name for name, valid in found if not (valid and wanted)]
        if owner.execute("select 1 from pg_stat_activity where application_name like 'perfloop:chg%'").fetchone():
            trial.left.append("a backend")
        trial.complete = not journal.open_entries() and self._audited()
        self.stop_fault()
        trial.idempotent = self._again(owner, journal)

    def _audited(self) -> bool:
        until = time.monotonic() + 10
        while list((self.state / "audit" / "open").glob("op-*.json")) and time.monotonic() < until:
            time.sleep(0.05)
        audit = AuditLog(self.state)
        lines: dict[str, list[str]] = {}
        for event in audit.entries(1_000):
            lines.setdefault(event.operation_id, []).append(event.outcome)
        return audit.verify() == () and bool(lines) and all(outcomes[0] == "in_progress" and len(outcomes) == 2 for outcomes in lines.values())

    def _again(self, owner: psycopg.Connection[Any], journal: Journal) -> bool:
        """The next command's recovery finds nothing, twice; and the same change can be made again and taken back."""
        audit = AuditLog(self.state)
        if recover(None, journal=journal, audit=audit) or recover(None, journal=journal, audit=audit):
            return False
        for (name,) in owner.execute("select indexrelid::regclass::text from pg_index where indrelid = 'ledger'::regclass and not indisprimary").fetchall():
            owner.execute(f"drop index {name}".encode())
        process = self._start()
        _, told = process.communicate(timeout=200)
        valid = owner.execute(
            "select bool_and(indisvalid and indisready), count(*) from pg_index where indrelid = 'ledger'::regclass and not indisprimary"
        ).fetchone()
        if process.returncode or valid != (True, 1):
            self.trial.told += f"; again: {' '.join(told.split())}"
            return False
        return self._audited()

    def _write(self) -> None:
        with self.connect() as connection:
            while not self.stop.is_set():
                began = time.monotonic()
                with suppress(psycopg.Error):
                    connection.execute("update ledger set touched = touched + 1 where id = %s", (self.random.randrange(1, 500_000),))
                    self.trial.writes += 1
                self.trial.waited_s = max(self.trial.waited_s, time.monotonic() - began)
                time.sleep(0.01)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """What another session holds while it is built: longer than the build may wait."""
        if self.trial.fault not in ("lock", "snapshot"):
            yield
            return
        with self.connect() as other, self.connect() as migration:
            if self.trial.fault == "lock":
                mode = ("share update exclusive", "row exclusive")[self.trial.number % 2]
                other.execute(f"begin; lock table ledger in {mode} mode".encode())
            else:
                other.execute("begin isolation level repeatable read")
                other.execute("select count(*) from beside")
            queued = threading.Thread(target=self._migrate, args=(migration,), daemon=True)
            if self.trial.number % 2 and self.trial.fault == "snapshot":
                queued.start()
            ended = threading.Timer(HELD_S, lambda: other.execute("rollback"))  # a writer's transaction ends some day: a drop waits for it, too
            ended.start()
            yield
            ended.join()
            if queued.ident:
                queued.join(30)

    def _migrate(self, connection: psycopg.Connection[Any]) -> None:
        """A migration that queues behind the build, with everybody behind it."""
        time.sleep(self.random.uniform(1.0, 2.0))
        with suppress(psycopg.Error):
            connection.execute("alter table ledger alter touched set default 0")

    @contextmanager
    def _tablespace(self, owner: psycopg.Connection[Any]) -> Iterator[None]:
        """A small disk of its own for new indexes."""
        if self.trial.fault != "disk":
            yield
            return
        self.disk = Path(tempfile.mkdtemp(prefix="plb-disk-"))
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=755", "none", str(self.disk)], check=True)
        try:
            data = self.disk / "space"
            data.mkdir()
            status = self.server.folder.stat()
            os.chown(data, status.st_uid, status.st_gid)
            owner.execute(f"create tablespace small location '{data}'".encode())
            owner.execute("alter role postgres set default_tablespace = small")
            yield
        finally:
            self.stop_fault()
            owner.execute("alter role postgres reset default_tablespace")
            for (name,) in owner.execute("select indexrelid::regclass::text from pg_index where indrelid = 'ledger'::regclass and not indisprimary").fetchall():
                owner.execute(f"drop index {name}".encode())
            owner.execute("checkpoint")
            owner.execute("drop tablespace small")
            subprocess.run(["umount", str(self.disk)], check=True)
            self.disk.rmdir()

    def stop_fault(self) -> None:
        if self.trial.fault == "disk":
            (self.disk / "filler").unlink(missing_ok=True)
