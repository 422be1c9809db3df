"""A PostgreSQL of the bench: private, on a Unix socket, its data kept below ``.bench/`` from one run to the next."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

from perfloop.twin import binaries
from perfloop.twin.cluster import reachable

SETTINGS = (
    "fsync=off",
    "listen_addresses=",
    "autovacuum=off",
    "max_parallel_workers_per_gather=0",
    "shared_buffers=256MB",
    "jit=off",
    "max_wal_size=4GB",
    "max_connections=40",
)


class Server:
    """Context manager around one server of this major version. ``name`` tells its data apart; ``settings`` come on top of the bench's own."""

    def __init__(self, work: Path, name: str, major: int, settings: tuple[str, ...] = ()) -> None:
        self.major, self.programs = binaries.find(major)
        if self.major != major:
            raise FileNotFoundError(f"PostgreSQL {major} is not installed here")
        self.folder, self.settings = work / f"{name}-{major}", settings
        self._process: subprocess.Popen[bytes] | None = None
        self._socket = Path()

    def __enter__(self) -> Server:
        user = pwd.getpwnam("postgres" if self.major == 15 else "pgserver") if os.geteuid() == 0 else None
        identity: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        programs = self.programs
        self._socket = Path(tempfile.mkdtemp(prefix="plb-"))
        if user:
            os.chown(self._socket, user.pw_uid, user.pw_gid)
            programs = reachable(programs, self._socket)
        if not (self.folder / "PG_VERSION").exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            for parent in self.folder.parents:
                if user and parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                    parent.chmod(parent.stat().st_mode | 0o011)
            if user:
                os.chown(self.folder, user.pw_uid, user.pw_gid)
            made = [str(programs / "initdb"), "-D", str(self.folder), "-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
            subprocess.run(made, check=True, capture_output=True, cwd="/", **identity)
        (self.folder / "postmaster.pid").unlink(missing_ok=True)
        options = [part for setting in (*SETTINGS, *self.settings, f"unix_socket_directories={self._socket}") for part in ("-c", setting)]
        command = [str(programs / "postgres"), "-D", str(self.folder), *options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **identity)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process:
            self._process.send_signal(2)  # fast shutdown
            self._process.wait(60)
        shutil.rmtree(self._socket, ignore_errors=True)

    def dsn(self, user: str = "postgres", database: str = "postgres") -> str:
        return f"host={self._socket} user={user} dbname={database}"

    def connect(self, user: str = "postgres", database: str = "postgres") -> psycopg.Connection[Any]:
        deadline = time.monotonic() + 60
        while True:
            try:
                return psycopg.connect(self.dsn(user, database), autocommit=True, prepare_threshold=None)
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline or "does not exist" in str(error):
                    raise
                time.sleep(0.05)
