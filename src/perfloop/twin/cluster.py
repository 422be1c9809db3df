"""A private, empty PostgreSQL in a temporary folder: no network, no disk syncs, gone with its owner."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from perfloop.errors import CannotMeasure
from perfloop.twin import binaries

if TYPE_CHECKING:
    import psycopg

PREFIX = "perfloop-twin-"
START_S = 15.0
STOP_S = 10.0
#: users that a root may run the server as, in this order: a database's own user may read statistics anyway
SERVER_USERS = ("pgserver", "postgres", "nobody")


class Cluster:
    """Context manager around one server. ``locale`` are initdb's options for it, ``major`` the wanted version; ``seconds`` is what starting took."""

    def __init__(self, locale: tuple[str, ...] = ("--encoding=UTF8", "--locale=C"), major: int | None = None) -> None:
        self.locale = locale
        self.major = major or 0
        self.seconds = 0.0
        self.folder = Path()
        self.database = "postgres"
        self._keeper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Cluster:
        """Start it, by the wanted version where that is installed. ``CannotMeasure`` where no server is installed, or none can run here."""
        began = time.monotonic()
        sweep()
        self.major, programs = binaries.find(self.major or None)
        model = _model(programs, self._options())
        user = _server_user()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))  # 0700
        try:
            if user is not None:
                os.chown(self.folder, user.pw_uid, user.pw_gid)
                programs = reachable(programs, self.folder)
            self._start(programs, user, model)
        except BaseException:
            self.close()
            raise
        self.seconds = time.monotonic() - began
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _start(self, programs: Path, user: pwd.struct_passwd | None, model: str) -> None:
        ids = ("-1", "-1") if user is None else (str(user.pw_uid), str(user.pw_gid))
        keeper = Path(__file__).with_name("keeper.py")
        command = [sys.executable, "-I", "-S", str(keeper), str(self.folder), str(programs), str(self.major), *ids, model, *self._options()]
        self._keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        assert self._keeper.stdout is not None
        answer = self._keeper.stdout.readline().decode(errors="replace").strip()
        if answer != "ready":
            raise CannotMeasure(
                "the planner twin could not be started",
                why=answer or "its process ended",
                fix=f"free space in {tempfile.gettempdir()}, or set TMPDIR to a folder that other users may enter",
            )

    def _options(self) -> tuple[str, ...]:
        """initdb's options for the sort order, as this version spells them."""
        provider = next((option.partition("=")[2] for option in self.locale if option.startswith("--locale-provider=")), "")
        if provider and (self.major < 15 or (provider == "builtin" and self.major < 17)):
            raise CannotMeasure("the planner twin could not be started", why=f"PostgreSQL {self.major} has no locale provider {provider}")
        return self.locale

    def connect(self, user: str = "postgres") -> psycopg.Connection[Any]:
        """A connection in autocommit mode; waits for the server to come up, at most 15 s."""
        import psycopg

        deadline = time.monotonic() + START_S
        while True:
            try:
                return psycopg.connect(
                    host=str(self.folder), user=user, dbname=self.database, autocommit=True, prepare_threshold=None, application_name="perfloop"
                )
            except psycopg.OperationalError as error:
                ended = self._keeper is None or self._keeper.poll() is not None
                if ended or time.monotonic() > deadline:
                    raise CannotMeasure(
                        "the planner twin does not answer", why=str(error).strip().splitlines()[-1], fix="try again with more free memory"
                    ) from error
                time.sleep(0.005)

    def close(self) -> None:
        """Stop the server and remove its folder with the statistics in it; returns when both are gone."""
        if self._keeper is not None:
            assert self._keeper.stdin is not None
            assert self._keeper.stdout is not None
            self._keeper.stdin.close()
            try:
                self._keeper.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._keeper.kill()
                self._keeper.wait()
            self._keeper.stdout.close()
            self._keeper = None
        if self.folder.name.startswith(PREFIX):
            _remove(self.folder)


class Within(Cluster):
    """Another database of a running cluster, for one more twin in it; closing it leaves the cluster as it is."""

    def __init__(self, cluster: Cluster, database: str) -> None:
        super().__init__(cluster.locale, cluster.major)
        self.folder, self.database = cluster.folder, database

    def close(self) -> None:
        """The cluster outlives it."""


def sweep() -> int:
    """Remove twins whose keeper was killed, with their servers; returns how many. Only folders of this user (as root: of the server's user) are touched."""
    user = _server_user()
    owners = {os.geteuid()} | ({user.pw_uid} if user else set())
    removed = 0
    for folder in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        try:
            status = folder.lstat()
            if status.st_uid not in owners or folder.is_symlink() or not folder.is_dir():
                continue
            lock = os.open(folder / "lock", os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            if time.time() - status.st_mtime < START_S:
                continue  # another start has made it this moment
            _remove(folder)
            removed += 1
            continue
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # in use
        else:
            _remove(folder)
            removed += 1
        finally:
            os.close(lock)
    return removed


def _remove(folder: Path) -> None:
    """Kill a server that still runs on exactly this folder, then delete it."""
    try:
        pid = int((folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if str(folder / "data").encode() in arguments:  # the pid was not reused by another program
            os.kill(pid, signal.SIGQUIT)
    except (OSError, ValueError):
        pass
    shutil.rmtree(folder, ignore_errors=True)


def _model(programs: Path, options: tuple[str, ...]) -> str:
    """Where an empty cluster of just this program and these options is kept between runs, to be copied: ``initdb`` takes most of a start. Empty where there is no such place."""
    root = Path("/var/cache") if os.geteuid() == 0 else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    keeper = Path(__file__).with_name("keeper.py")
    try:
        made_by = [
            (str(path), status.st_size, status.st_mtime_ns) for path in (programs / "initdb", programs / "postgres", keeper) for status in (path.stat(),)
        ]
    except OSError:
        return ""
    name = hashlib.sha256(repr((made_by, options)).encode()).hexdigest()[:16]
    return str(root / "perfloop" / "twin" / name)


def _server_user() -> pwd.struct_passwd | None:
    """The user to run the server as: PostgreSQL refuses to run as root. None where we are not root."""
    if os.geteuid() != 0:
        return None
    for name in SERVER_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise CannotMeasure("the planner twin cannot run as root", why=f"none of the users {', '.join(SERVER_USERS)} exists", fix="run perfloop as another user")


def reachable(programs: Path, folder: Path) -> Path:
    """The programs, where another user can reach them: a copy where the installation lies under a private folder."""
    if all(parent.stat().st_mode & 0o001 for parent in (programs, *programs.parents)):
        return programs
    package, copy = programs.parents[1], folder / "program"
    unused = shutil.ignore_patterns("include", "pg_dump*", "psql", "pgbench", "ecpg", "vector*")
    # the programs look for their libraries beside the package, so both keep their places
    for source in (programs.parent, package.with_name(package.name + ".libs")):
        if source.is_dir():
            shutil.copytree(source, copy / source.relative_to(package.parent), ignore=unused, symlinks=True)
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    return copy / programs.relative_to(package.parent)
