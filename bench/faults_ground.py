"""What ``bench.faults`` runs on: PostgreSQL with the desk's tables, Redis, the other service, and one of the three desks with its faults."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from perfloop_shop.cluster import Cluster
from perfloop_shop.processes import free_port, spawn, start_ticks, stop
from perfloop_shop.seed import activity_sql, create_database

HERE = Path(__file__).parent
SERVICES = HERE / "faults_services"
WORK = HERE.parent / ".bench" / "faults-work"
VENV = HERE.parent / ".bench" / "faults"
PACKAGES = ("fastapi", "uvicorn", "sqlalchemy", "psycopg[binary,pool]", "flask", "gunicorn", "django<6", "redis", "requests", "httpx")
TICKETS = 160_000

_TABLES = f"""
CREATE TABLE agents (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE tickets (id integer PRIMARY KEY, agent_id integer NOT NULL, subject text NOT NULL, state text NOT NULL, opened_at timestamptz NOT NULL, body text NOT NULL);
CREATE TABLE messages (id integer PRIMARY KEY, ticket_id integer NOT NULL, author_id integer NOT NULL, text text NOT NULL);
INSERT INTO agents SELECT i, 'agent ' || i FROM generate_series(1, 500) i;
INSERT INTO tickets SELECT i, 1 + hashint4(i) % 400 + 400 * (hashint4(i) % 400 < 0)::int, 'printer ' || i % 977 || ' says ' || md5(i::text),
  (ARRAY['open','waiting','closed'])[1 + i % 3], timestamptz '2026-01-01 00:00+00' + i * interval '1 minute', repeat('it does not print ', 9) FROM generate_series(1, {TICKETS}) i;
INSERT INTO messages SELECT i, i / 2 + 1, 1 + (i * 7) % 500, 'have you tried switching it off, attempt ' || i FROM generate_series(1, {2 * TICKETS - 2}) i;
CREATE INDEX messages_ticket ON messages (ticket_id);
CREATE INDEX tickets_agent ON tickets (agent_id, opened_at);
ALTER TABLE agents OWNER TO shop; ALTER TABLE tickets OWNER TO shop; ALTER TABLE messages OWNER TO shop;
GRANT USAGE ON SCHEMA public TO perfloop_ro; GRANT SELECT ON ALL TABLES IN SCHEMA public TO perfloop_ro;
"""


@dataclass(frozen=True)
class Desk:
    """One running desk: its address, its first process, and the file with the DSN of perfloop's role."""

    url: str
    pid: int
    dsn_file: Path


def install() -> None:
    """The services' packages, in a folder of their own: they are no dependencies of perfloop."""
    if not (VENV / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        subprocess.run([str(VENV / "bin" / "pip"), "-q", "--disable-pip-version-check", "install", *PACKAGES], check=True)
        (VENV / "ready").touch()


class Ground:
    """PostgreSQL, Redis and the directory, for all cells of a call."""

    def __init__(self, cpus: Sequence[int]) -> None:
        self.cpus = tuple(cpus)
        WORK.mkdir(parents=True, exist_ok=True)
        self.cluster = Cluster(WORK / "db", self.cpus)
        self.redis_port, self.directory_port = free_port(), free_port()

    def __enter__(self) -> Ground:
        for name in ("directory", "redis"):
            stop(WORK / f"{name}.pid")
        self.cluster.stop()
        if not (WORK / "seeded").exists():
            self.cluster.clear()
            self.cluster.create()
            self.cluster.start(seeding=True)
            with self.cluster.superuser("postgres") as connection:
                create_database(connection)
            with self.cluster.superuser() as connection:
                connection.execute(_TABLES)
                connection.execute(activity_sql())
                connection.execute("VACUUM (ANALYZE, FREEZE)")
            self.cluster.stop()
            (WORK / "seeded").touch()
        self.cluster.start()
        with self.cluster.superuser() as connection:
            connection.execute("ALTER ROLE shop PASSWORD 'bench'; ALTER ROLE perfloop_ro PASSWORD 'bench'")
        python = str(VENV / "bin" / "python")
        self._spawn([python, str(SERVICES / "directory.py"), str(self.directory_port)], "directory")
        server = shutil.which("redis-server")
        if server:
            self._spawn([server, "--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", str(WORK)], "redis")
        dsn = WORK / "perfloop.dsn"
        dsn.touch(mode=0o600)
        dsn.write_text(self.cluster.dsn("perfloop_ro", "bench"))
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("directory", "redis"):
            stop(WORK / f"{name}.pid")
        self.cluster.stop()

    @contextmanager
    def desk(
        self, kind: str, faults: Sequence[str], *, workers: int = 1, threads: int = 8, pinned: bool = True, extra: dict[str, str] | None = None
    ) -> Iterator[Desk]:
        """One desk with its faults, ended afterwards."""
        port = free_port()
        with ExitStack() as undo:
            undo.enter_context(self._without_index("missing-index" in faults))
            log = WORK / "desk.log"
            env = {
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(HERE),
                "FAULTS": ",".join(faults),
                "DATABASE_DSN": self.cluster.dsn("shop", "bench"),
                "DIRECTORY_URL": f"http://127.0.0.1:{self.directory_port}",
                "REDIS_PORT": str(self.redis_port),
                "LOG_FILE": str(WORK / "desk.messages"),
                **(extra or {}),
            }
            python = str(VENV / "bin" / "python")
            if kind == "fastapi":
                argv = [
                    python,
                    "-m",
                    "uvicorn",
                    "faults_services.desk_fastapi:app",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(port),
                    "--no-access-log",
                    "--log-level",
                    "warning",
                ]
            else:
                argv = [
                    python,
                    "-m",
                    "gunicorn",
                    f"faults_services.desk_{kind}:app",
                    "-b",
                    f"127.0.0.1:{port}",
                    "-w",
                    str(workers),
                    "--log-level",
                    "warning",
                    "--keep-alive",
                    "30",
                ]
                argv += ["-k", "gthread", "--threads", str(threads)] if threads > 1 else []
            child = spawn(argv, log=log, pid_file=WORK / "desk.pid", cwd=SERVICES, env=env, cpus=self.cpus if pinned else ())
            undo.callback(_end, child)
            _wait(f"http://127.0.0.1:{port}/health", child, log)
            yield Desk(f"http://127.0.0.1:{port}", child.pid, WORK / "perfloop.dsn")

    @contextmanager
    def _without_index(self, missing: bool) -> Iterator[None]:
        if not missing:
            yield
            return
        with self.cluster.superuser() as connection:
            connection.execute("DROP INDEX IF EXISTS tickets_agent")
        try:
            yield
        finally:
            with self.cluster.superuser() as connection:
                connection.execute("CREATE INDEX IF NOT EXISTS tickets_agent ON tickets (agent_id, opened_at)")

    def _spawn(self, argv: list[str], name: str) -> None:
        spawn(argv, log=WORK / f"{name}.log", pid_file=WORK / f"{name}.pid", cwd=WORK, env={"PATH": os.environ["PATH"]}, cpus=self.cpus)


def _wait(url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and child.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"the desk did not start:\n{log.read_text(errors='replace')[-2000:]}")


def _end(child: subprocess.Popen[bytes]) -> None:
    if start_ticks(child.pid):
        os.killpg(child.pid, signal.SIGTERM)  # its own session: gunicorn's workers are in it
    try:
        child.wait(8)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait(5)
