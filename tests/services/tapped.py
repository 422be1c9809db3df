"""The service of ``bench/experiments_bench`` on a PostgreSQL, with the address of its database in ``app.toml``, and its restart command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from services.postgres import Postgres
from services.server import free_port

PROGRAM = Path(__file__).parents[2] / "bench" / "experiments_bench" / "service.py"


@dataclass(frozen=True)
class Tapped:
    """The service, its folder, and its database's own address."""

    folder: Path
    port: int
    database: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def file(self) -> Path:
        return self.folder / "app.toml"

    @property
    def pid(self) -> int:
        return int((self.folder / "pid").read_text())

    @property
    def restart_command(self) -> str:
        return f"{sys.executable} {PROGRAM} restart {self.folder}"

    def ok(self, path: str = "/serial?n=2") -> bool:
        try:
            with urlopen(self.url + path, timeout=10) as answer:
                return bool(answer.read() == b"done\n")
        except (URLError, OSError):
            return False


@contextmanager
def tapped(folder: Path, postgres: Postgres, dsn: str, cpus: str = "") -> Iterator[Tapped]:
    """Started until the block ends. ``dsn``: what stands in its configuration."""
    folder.mkdir(exist_ok=True)
    service = Tapped(folder, free_port(), f"127.0.0.1:{postgres.port}")
    service.file.write_text(f"# the desk\nport = {service.port}\n\n[database]\nurl = '{dsn}'  # not for logs\n")
    env = {**os.environ, "SERVICE_CPUS": cpus}
    subprocess.run([sys.executable, str(PROGRAM), "restart", str(folder)], check=True, env=env)
    try:
        until = time.monotonic() + 30
        while not service.ok():
            if time.monotonic() > until:
                raise RuntimeError((folder / "log").read_text()[-2000:])
            time.sleep(0.05)
        yield service
    finally:
        subprocess.run([sys.executable, str(PROGRAM), "stop", str(folder)], check=True)
