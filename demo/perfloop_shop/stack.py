"""The whole shop: PostgreSQL, the supplier and the service, started together and ended together, also after a failure."""

from __future__ import annotations

import fcntl
import os
import secrets
import shlex
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

from psycopg import Connection, sql

from perfloop.errors import CannotMeasure
from perfloop_shop import ctl, files, seed
from perfloop_shop.cluster import SETTINGS, Cluster
from perfloop_shop.problems import FOR_DEMO, checked, surroundings
from perfloop_shop.processes import free_port, read_pid, spawn, stop, wait_until


def ensure_template(folder: Path, orders: int = seed.ORDERS) -> Path:
    """A stopped cluster with the seeded data below ``folder``, made once per size and version of the seed; returns its folder."""
    text = Path(seed.__file__).read_text() + repr(sorted(SETTINGS.items())) + str(orders) + seed.activity_sql()
    template = folder / f"seed-{sha256(text.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder, wait=True):
        cluster = Cluster(template)
        if (template / "seeded").exists() and (cluster.data / "cluster" / "PG_VERSION").exists():
            return template
        cluster.stop()
        cluster.remove()
        cluster = Cluster(template)
        try:
            cluster.create()
            cluster.start(seeding=True)
            with cluster.superuser("postgres") as connection:
                seed.create_database(connection)
            with cluster.superuser() as connection:
                seed.seed(connection, orders)
        finally:
            cluster.stop()
        (template / "seeded").write_text(f"{orders}\n")
    return template


class Stack:
    """The running shop in ``work_dir``; use it with ``with``. ``orders`` is the number of rows of its largest table."""

    def __init__(
        self,
        problems: Iterable[str] = (),
        work_dir: Path = Path(".demo"),
        template_dir: Path | None = None,
        *,
        orders: int = seed.ORDERS,
        cpus: Sequence[int] | None = None,
    ) -> None:
        self.problems = checked(problems)
        self.work_dir = work_dir.resolve()
        self.template_dir = (template_dir or self.work_dir / "template").resolve()
        self.orders = orders
        self.cpus = default_cpus() if cpus is None else tuple(cpus)
        self.config_path = self.work_dir / "perfloop.toml"
        self.cluster: Cluster | None = None
        self._held: IO[str] | None = None
        self.port = self.supplier_port = 0

    @property
    def url(self) -> str:
        """Base URL of the service."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Stack:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything; what was started is ended again if any part fails."""
        self.work_dir.mkdir(parents=True, exist_ok=True)
        self.hold()
        try:
            self._end_processes()  # left by an owner that was killed
            self._start_database()
            self._start_supplier()
            self._start_service()
        except BaseException:
            self.stop()
            raise

    def hold(self) -> None:
        """Become the one owner of the folder; ``CannotMeasure`` while another process is."""
        self._held = _open_lock(self.work_dir, wait=False)

    def stop(self) -> None:
        """End service, supplier and PostgreSQL by their pids and throw the copy of the data away."""
        if self._held is None:
            return
        try:
            self._end_processes()
            if self.cluster is not None:
                self.cluster.remove()
        finally:
            self.release()

    def release(self) -> None:
        """No longer own the folder; what runs there goes on."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def pid(self, part: str = "shop") -> int | None:
        """Pid of ``shop``, ``supplier`` or ``postgres`` as it is now (a restart changes it)."""
        return read_pid(self.work_dir / f"{part}.pid")

    def restart_service(self) -> None:
        """Restart the service alone, as the configured command does."""
        stop(self.work_dir / "shop.pid")
        ctl.start(self.work_dir)

    def admin(self) -> Connection:
        """A superuser's connection, for tests that look at what the database did."""
        if self.cluster is None:
            raise CannotMeasure("the shop is not running", fix="start it first")
        return self.cluster.superuser()

    def _end_processes(self) -> None:
        for part in ("shop", "supplier"):
            stop(self.work_dir / f"{part}.pid")
        stop(self.work_dir / "postgres.pid", first=signal.SIGINT, timeout_s=20.0)
        for log in self.work_dir.glob("*.log"):
            log.rename(log.with_suffix(".log.1"))  # one older log is kept for whoever looks for a reason

    def _start_database(self) -> None:
        template = Cluster(ensure_template(self.template_dir, self.orders))
        self.cluster = cluster = Cluster(self.work_dir, self.cpus)
        cluster.clear()
        cluster.copy_from(template)
        cluster.start()
        with cluster.superuser() as connection:
            for role, file in (("shop", "owner.dsn"), ("perfloop_ro", "perfloop.dsn")):
                password = secrets.token_urlsafe(18)
                connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(password)))
                files.write_secret(self.work_dir / file, cluster.dsn(role, password))
            if not surroundings(self.problems).customer_index:
                connection.execute("DROP INDEX orders_customer_id_idx")

    def _start_supplier(self) -> None:
        self.supplier_port = free_port()
        around = surroundings(self.problems)
        argv = [sys.executable, "-m", "uvicorn", "perfloop_shop.supplier:app", "--host", "127.0.0.1", "--port", str(self.supplier_port)]
        argv += ["--no-access-log", "--log-level", "warning", "--timeout-graceful-shutdown", "2"]
        env = ctl.python_env() | {"SUPPLIER_STOCK_DELAY_MS": str(around.stock_delay_ms), "SUPPLIER_QUOTE_DELAY_MS": str(around.quote_delay_ms)}
        log, pid_file = self.work_dir / "supplier.log", self.work_dir / "supplier.pid"
        spawn(argv, log=log, pid_file=pid_file, cwd=self.work_dir, env=env, cpus=self.cpus)

    def _start_service(self) -> None:
        self.port = free_port()
        files.service_settings(self.work_dir / "shop.toml", surroundings(self.problems), f"http://127.0.0.1:{self.supplier_port}", self.work_dir / "owner.dsn")
        files.restart_script(self.work_dir / "restart.py", self.work_dir)
        files.perfloop_config(self.config_path, url=self.url, work_dir=self.work_dir, customers=seed.customers(self.orders))
        ctl.describe(self.work_dir, port=self.port, problems=self.problems, cpus=self.cpus)
        ctl.start(self.work_dir)
        wait_until(
            lambda: ctl.answers(self.supplier_port, "/stock/1"),
            what="the supplier",
            pid_file=self.work_dir / "supplier.pid",
            log=self.work_dir / "supplier.log",
            timeout_s=20.0,
        )


@dataclass(frozen=True)
class Demo:
    """A running demo: where it is, and what is wrong with it."""

    url: str
    config_path: Path
    problems: tuple[str, ...]
    note: str


@contextmanager
def demo(work_dir: Path | None = None, problems: Iterable[str] | None = None, *, keep: bool = False) -> Iterator[Demo]:
    """Start the shop with its problems (missing-index, pool-exhausted and n-plus-one unless told otherwise) and end it afterwards, unless ``keep``."""
    begun = time.monotonic()
    stack = Stack(FOR_DEMO if problems is None else problems, work_dir or Path(".demo"))
    stack.start()
    try:
        note = f"FastAPI on PostgreSQL 18 with {stack.orders:,} orders, and a supplier of its own; ready in {time.monotonic() - begun:.1f} s"
        if keep:
            note += f"; it stays up: {shlex.join([sys.executable, '-m', 'perfloop_shop', 'ctl', 'down', '--work-dir', str(stack.work_dir)])} ends it"
        yield Demo(stack.url, stack.config_path, stack.problems, note)
    finally:
        stack.release() if keep else stack.stop()


def take_down(work_dir: Path) -> None:
    """End a shop whose owner is gone (it was kept, or killed) and throw its copy of the data away; refused while the owner lives."""
    stack = Stack((), work_dir)
    if not stack.work_dir.is_dir():
        return
    stack.hold()
    stack.cluster = Cluster(stack.work_dir)
    stack.stop()


def default_cpus() -> tuple[int, ...]:
    """The first CPU we may use where there are two or more, so that the load generator has the others; else no pinning."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0],) if len(allowed) >= 2 else ()


def _open_lock(folder: Path, *, wait: bool) -> IO[str]:
    handle = (folder / "lock").open("w")
    deadline = time.monotonic() + (120 if wait else 0)
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= deadline:
                handle.close()
                raise CannotMeasure(
                    f"a shop is already running in {folder}", why="its owner holds the lock", fix="stop it, or use another --work-dir"
                ) from None
            time.sleep(0.1)
        else:
            return handle


@contextmanager
def _lock(folder: Path, *, wait: bool) -> Iterator[None]:
    handle = _open_lock(folder, wait=wait)
    try:
        yield
    finally:
        handle.close()
