"""Real services on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfloop.context import peers
from perfloop.context.discover import discover, rediscover
from perfloop.context.doctor import capabilities, ptrace_obstacle
from perfloop.context.revision import git_revision
from perfloop.errors import CannotMeasure, UsageError
from perfloop.host.processes import start_time_s
from perfloop.model.config import Config
from perfloop.model.target import PeerKind

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
# Two processes on one socket; each request opens (once) a connection to the backend.
SERVICE = textwrap.dedent("""
    import http.server, os, socket, sys, threading
    backend, port = int(sys.argv[1]), int(sys.argv[2])
    held = []
    class Handler(http.server.BaseHTTPRequestHandler):
        server_version = "thing/1.0"
        def do_GET(self):
            if self.path == "/heavy" and not held:
                held.append(socket.create_connection(("127.0.0.1", backend)))
                held[0].sendall(b"x")
            self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
        def log_message(self, *a): pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    if os.fork() == 0:
        threading.Event().wait()
    server.serve_forever()
""")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def config(url: str, **target: object) -> Config:
    return Config.model_validate({"target": {"url": url, **target}})


def start(folder: Path, backend: int, port: int) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-c", SERVICE, str(backend), str(port), "--password", "geheim"], cwd=folder, start_new_session=True)
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return child


def stop(child: subprocess.Popen[bytes]) -> None:
    os.killpg(child.pid, 9)
    child.wait()


@pytest.fixture
def backend() -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                held.append(listener.accept()[0])
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    yield int(listener.getsockname()[1])
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for connection in held:
        connection.close()


@pytest.fixture
def service(tmp_path: Path, backend: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = free_port()
    child = start(tmp_path, backend, port)
    yield f"http://127.0.0.1:{port}", child
    stop(child)


def test_a_service_is_found_behind_its_url(service: tuple[str, subprocess.Popen[bytes]], tmp_path: Path) -> None:
    url, child = service
    (tmp_path / ".git" / "refs" / "heads").mkdir(parents=True)
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / ".git" / "refs" / "heads" / "main").write_text("a" * 40 + "\n")
    target = discover(config(url))
    assert target.local
    assert len(target.processes) == 2
    first, worker = target.processes
    assert first.pid == child.pid
    assert worker.parent_pid == first.pid
    assert first.runtime == "python"
    assert first.runtime_version == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert first.started_s == start_time_s(child.pid)
    assert first.threads >= 1
    assert first.cpus
    assert first.fd_limit
    assert (first.cwd, target.source_root) == (str(tmp_path), str(tmp_path))
    assert "geheim" not in str(target)
    assert target.git_revision == "a" * 40
    assert target.server_header.startswith("thing/1.0")
    assert target.peers == ()
    assert target.unknown == ()


def test_peers_show_after_traffic_and_a_restart_is_seen(service: tuple[str, subprocess.Popen[bytes]], backend: int, tmp_path: Path) -> None:
    url, child = service
    before = discover(config(url))
    with urllib.request.urlopen(url + "/heavy") as answer:
        answer.read()
    after = rediscover(before, config(url))
    assert after.processes == before.processes
    (peer,) = after.peers
    assert (peer.host, peer.port, peer.connections, peer.pid) == ("127.0.0.1", backend, 1, os.getpid())
    assert peer.process_name
    stop(child)
    again = start(tmp_path, backend, before.port)
    try:
        moved = rediscover(after, config(url))
        assert {process.pid for process in moved.processes}.isdisjoint({process.pid for process in before.processes})
        assert moved.processes[0].pid == again.pid
    finally:
        stop(again)


def test_a_configured_database_is_a_peer_before_the_pool_connects(service: tuple[str, subprocess.Popen[bytes]], backend: int, tmp_path: Path) -> None:
    url, _ = service
    (tmp_path / "dsn").write_text(f"postgresql://u:geheim@127.0.0.1:{backend}/d")
    asked = config(url, postgres="file:dsn")
    target = discover(asked, tmp_path)
    assert [(peer.kind, peer.port, peer.connections) for peer in target.peers] == [(PeerKind.POSTGRESQL, backend, 0)]
    with urllib.request.urlopen(url + "/heavy") as answer:
        answer.read()
    assert [(peer.kind, peer.port, peer.connections) for peer in discover(asked, tmp_path).peers] == [(PeerKind.POSTGRESQL, backend, 1)]
    assert "geheim" not in str(target)


def test_a_missing_credential_is_said_and_does_not_stop(service: tuple[str, subprocess.Popen[bytes]]) -> None:
    target = discover(config(service[0], postgres="env:NOT_SET_ANYWHERE"))
    assert any("NOT_SET_ANYWHERE" in line for line in target.unknown)


def test_a_process_may_be_named(service: tuple[str, subprocess.Popen[bytes]]) -> None:
    url, child = service
    assert discover(config(url, process=str(child.pid))).processes[0].pid == child.pid
    for wrong in ("4194305", "nginx"):
        with pytest.raises(UsageError, match=wrong) as caught:
            discover(config(url, process=wrong))
        assert caught.value.fix


def test_no_url_and_nothing_there() -> None:
    with pytest.raises(UsageError, match="no target"):
        discover(Config())
    with pytest.raises(CannotMeasure, match="nothing listens"):
        discover(config(f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(UsageError):
        discover(config("shop"))


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("postgres",), PeerKind.POSTGRESQL),
        (("postgres:", "shop"), PeerKind.POSTGRESQL),
        (("redis-server", "*:6379"), PeerKind.REDIS),
        (("mariadbd",), PeerKind.MYSQL),
        (("nginx: master process",), PeerKind.HTTP),
        (("python", "uvicorn"), PeerKind.HTTP),
        (("my-postgres-thing",), PeerKind.UNKNOWN),
        ((), PeerKind.UNKNOWN),
    ],
)
def test_kinds_by_process(words: tuple[str, ...], kind: PeerKind) -> None:
    assert peers.kind_by_process(words) == kind


def test_revisions(tmp_path: Path) -> None:
    assert git_revision(tmp_path / "not" / "there") in ("", git_revision(tmp_path))
    git = tmp_path / ".git"
    git.mkdir()
    (git / "HEAD").write_text("b" * 40)
    assert git_revision(tmp_path) == "b" * 40
    (git / "HEAD").write_text("ref: refs/heads/x")
    (git / "packed-refs").write_text("# pack-refs\n" + "c" * 40 + " refs/heads/x\n")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    assert git_revision(tmp_path / "deep" / "er") == "c" * 40
    (git / "HEAD").write_text("ref: refs/../../../etc/passwd")
    assert git_revision(tmp_path) == ""
    (git / "HEAD").write_bytes(b"\xff\x00garbage")
    assert git_revision(tmp_path) == ""


def test_doctor_without_and_with_a_target(service: tuple[str, subprocess.Popen[bytes]], tmp_path: Path) -> None:
    for found in (capabilities(Config(), None, tmp_path), capabilities(config(service[0]), discover(config(service[0])), tmp_path)):
        assert len({one.name for one in found}) == len(found)
        assert all(one.reason for one in found)
        assert all(one.fix for one in found if one.ok is False)
    assert next(one for one in found if one.name == "service process").ok


def test_doctor_says_why_the_database_cannot_be_reached(tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text(f"postgresql://u:geheim@127.0.0.1:{free_port()}/d")
    found = {
        one.name: one
        for one in capabilities(Config.model_validate({"target": {"postgres": "file:dsn", "postgres_admin": "env:NOT_SET_ANYWHERE"}}), None, tmp_path)
    }
    assert found["database, to look"].ok is False
    assert "is not there" in found["database, to look"].reason
    assert "NOT_SET_ANYWHERE" in found["database, to change"].reason
    assert "geheim" not in str(found)


def test_ptrace_of_our_own_child_is_judged() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(10)"])
    try:
        reason, fix = ptrace_obstacle(child.pid)
        assert bool(reason) == bool(fix)
    finally:
        child.kill()
        child.wait()
