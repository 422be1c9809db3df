"""Copies of a real service behind a real nginx: what each brings, how long one takes to start, and that nothing is left."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from perfloop.capacity import instances, sizing
from perfloop.errors import UsageError
from perfloop.host.worktree import running
from perfloop.loop import opening, prepare, replicas
from perfloop.loop.prepare import Session
from perfloop.model.requests import CapacityRequest

APP = """
import os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
LOCK = Lock()
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    def do_GET(self):
        with LOCK:
            time.sleep(0.02)
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *_): pass
class Server(ThreadingHTTPServer):
    request_queue_size = 256
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def session(project: Path) -> Iterator[Session]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (project / "app.py").write_text(APP)
    (project / "perfloop.toml").write_text(f'[target]\nenvironment = "sandbox"\n[gate]\nstart_command = "{sys.executable} app.py {{port}}"\n')
    with running(f"{sys.executable} app.py {port}", project, port):
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        made = opening.open_session(CapacityRequest(url=f"http://127.0.0.1:{port}", growth="2x"), "capacity", None)
        ended(prepare.understand(made))
        yield made


def ended(work: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(work)
        except StopIteration as stop:
            return stop.value


def test_what_a_second_copy_brings_is_measured_and_planned_with(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "WINDOW_S", 0.6)
    monkeypatch.setattr(replicas, "ROUNDS", 1)
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    one, two = ended(replicas.measured(session, (1, 2)))
    assert (one.count, two.count, one.efficiency) == (1, 2, 1.0)
    assert two.rate_per_s.value > one.rate_per_s.value  # a lock for each copy
    assert one.startup_s > 0
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before
    service = sizing.Service(rate_slo_per_s=40.0, cores=1.0)
    copies = (one, two.with_(efficiency=0.9))
    planned = {rate: sizing.options(rate, service, (), (), instances.builtin(), copies)[1] for rate in (70.0, 78.0)}
    assert (planned[70.0].replicas, planned[70.0].measured, planned[70.0].rate_per_s) == (2, True, 72.0)
    assert not planned[78.0].measured
    assert "2 copies reach 90" in planned[78.0].assumes


def test_without_a_command_to_start_one_none_is_started(session: Session) -> None:
    session.config = session.config.with_(gate=session.config.gate.with_(start_command=""))
    assert ended(replicas.measured(session, (1, 2))) == ()
    assert any("start_command" in note for note in session.result.notes)


def test_more_than_a_machine_should_hold_is_refused() -> None:
    assert replicas.counts("4,1,4,,2") == (1, 2, 4)
    assert replicas.counts("") == ()
    for text in ("0,1", "1,40"):
        with pytest.raises(UsageError, match="outside 1 to 16"):
            replicas.counts(text)
