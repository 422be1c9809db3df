"""MariaDB in a folder: root without a password through its socket, plus the accounts that a test asks for."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.server import Server, free_port, program, started

_TEMPLATE = Path(tempfile.gettempdir()) / f"perfloop-mariadb-{os.getuid()}"


@dataclass(frozen=True)
class MariaDb(Server):
    """The server and its socket."""

    socket: Path

    def run(self, sql: str, database: str = "") -> str:
        """Runs statements as root by the command-line client; returns its output, tab separated."""
        argv = [program("mariadb"), "--no-defaults", f"--socket={self.socket}", "-uroot", "--batch", "--skip-column-names", *([database] if database else [])]
        done = subprocess.run(argv, input=sql, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout


@contextmanager
def mariadb(folder: Path, *options: str) -> Iterator[MariaDb]:
    """A server with a database ``shop``; ``options`` are further options of mariadbd."""
    data = folder / "mysql"
    shutil.copytree(_template(), data)
    port = free_port()
    # a path of a Unix socket has 107 signs at most, and pytest's folders are long
    with tempfile.TemporaryDirectory(prefix="pl-my-") as short:
        socket = Path(short) / "sock"
        argv = [
            program("mariadbd"), "--no-defaults", f"--datadir={data}", f"--socket={socket}", f"--port={port}", "--bind-address=127.0.0.1",
            "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M", "--user=root", *options,
        ]  # fmt: skip
        with started("mariadb", argv, port, folder) as server:
            made = MariaDb(server.name, server.host, server.port, server.pid, server.folder, socket)
            made.run("create database shop")
            yield made


def _template() -> Path:
    """An initialised data folder, made once on this machine: it takes 2 s."""
    if not (_TEMPLATE / "mysql").is_dir():
        made = Path(tempfile.mkdtemp(prefix="pl-my-"))
        subprocess.run(
            [program("mariadb-install-db"), "--no-defaults", f"--datadir={made}", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        try:
            made.rename(_TEMPLATE)
        except OSError:  # another run was first
            shutil.rmtree(made)
    return _TEMPLATE
