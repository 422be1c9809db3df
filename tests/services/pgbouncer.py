"""PgBouncer before a PostgreSQL of the test's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.server import Server, free_port, program, started


@contextmanager
def pgbouncer(folder: Path, database: str, users: dict[str, str], **settings: str) -> Iterator[Server]:
    """A pooler for every database of one server. ``database`` is its side of the address (``host=127.0.0.1 port=5432``), ``users`` maps names to passwords;
    ``settings`` are further lines of ``[pgbouncer]`` (``pool_mode="transaction"``). User ``admin`` may use the console."""
    port = free_port()
    (folder / "users.txt").write_text("".join(f'"{name}" "{password}"\n' for name, password in {"admin": "admin", **users}.items()))
    lines = {"pool_mode": "transaction", "max_client_conn": "500", "default_pool_size": "5", **settings}
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = {database}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = plain\n"
        f"auth_file = {folder}/users.txt\nadmin_users = admin\nignore_startup_parameters = extra_float_digits,options\n"
        + "".join(f"{name} = {value}\n" for name, value in lines.items())
    )
    user = None
    if os.getuid() == 0:  # it refuses to be root
        user = "nobody"
        for path in (folder / "users.txt", folder / "pgbouncer.ini"):
            path.chmod(0o644)
        for parent in (folder, *folder.parents):
            if parent.stat().st_uid == 0 and parent != Path("/") and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
    with started("pgbouncer", [program("pgbouncer"), str(folder / "pgbouncer.ini")], port, folder, user=user) as server:
        yield server
