"""The agent inside real services: what each request called, how often, and from which line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perfloop.host.agent_link import agent_counts, has_agent
from perfloop.model.calls import CallCount, CallsObservation
from perfloop.observe.probes.calls import between
from services.server import free_port

HERE = Path(__file__).parent
get = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Service:
    """A service under ``perfloop run``."""

    def __init__(self, pid: int, port: int, file: str) -> None:
        self.pid, self.port = pid, port
        self.lines = {
            line.partition("# line: ")[2].strip(): number for number, line in enumerate((HERE / file).read_text().splitlines(), 1) if "# line: " in line
        }

    def seen(self, *paths: str) -> CallsObservation:
        """What was counted while these were asked for."""
        before = agent_counts(self.pid)
        for path in paths:
            assert get(f"http://127.0.0.1:{self.port}{path}", timeout=20).status == 200
        names = [f"GET {path.partition('?')[0]}" for path in paths]
        for _ in range(200):  # a request ends a moment after its answer was read
            found = between(self.pid, before, agent_counts(self.pid))
            if sum(entry.requests for entry in found.requests if entry.name in names) == len(paths):
                break
            time.sleep(0.02)
        return found


@contextmanager
def running(file: str, **env: str) -> Iterator[Service]:
    port = free_port()
    command = [sys.executable, "-m", "perfloop", "run", "--", sys.executable, str(HERE / file), str(port)]
    process = subprocess.Popen(command, env={**os.environ, **env})
    try:
        for _ in range(300):
            try:
                get(f"http://127.0.0.1:{port}/leaf", timeout=5)
                break
            except OSError:
                assert process.poll() is None, "the service ended"
                time.sleep(0.1)
        yield Service(process.pid, port, file)
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def threaded(redis, postgres) -> Iterator[Service]:
    with running("threaded_service.py", REDIS_PORT=str(redis.port), DSN=postgres.admin) as service:
        yield service


@pytest.fixture(scope="module")
def asynchronous(redis, postgres) -> Iterator[Service]:
    with running("async_service.py", REDIS_PORT=str(redis.port), DSN=postgres.admin) as service:
        yield service


def calls(seen: CallsObservation, name: str) -> list[CallCount]:
    return [call for entry in seen.requests if entry.name == name for call in entry.calls]


@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [
        ("sqlite", "database", "SELECT ?, ?"),
        ("sqlalchemy", "database", "SELECT ?"),
        ("psycopg", "database", "SELECT %s::int"),
        ("redis", "cache", "GET user:{id}"),
        ("urllib", "http", "GET 127.0.0.1:{port}/leaf/{id}"),
        ("requests", "http", "GET 127.0.0.1:{port}/leaf/{id}"),
    ],
)
def test_each_call_of_a_request_is_counted_with_its_line(threaded, path, kind, text):
    seen = threaded.seen(*[f"/{path}?n=7"] * 3)
    call = max(calls(seen, f"GET /{path}"), key=lambda call: call.calls)
    assert (call.kind, call.text, call.calls, call.requests, call.most) == (kind, text.replace("{port}", str(threaded.port)), 21, 3, 7)
    assert call.seconds > 0
    lines = [line for file, line, _ in call.places[0].lines if file.endswith("threaded_service.py")]
    assert threaded.lines[path] in lines
    assert seen.failures == 0


def test_a_pipeline_is_one_call(threaded):
    pipelines = [call for call in calls(threaded.seen("/redis?n=1"), "GET /redis") if call.text == "(pipeline)"]
    assert [call.calls for call in pipelines] == [1]


def test_an_error_of_the_service_stays_its_own_and_is_counted(threaded):
    seen = threaded.seen("/error?n=2")
    assert [(call.text, call.calls) for call in calls(seen, "GET /error")] == [("SELECT nothing FROM nowhere", 2)]
    assert seen.failures == 0


@pytest.mark.parametrize(("path", "kind"), [("psycopg", "database"), ("redis", "cache"), ("httpx", "http"), ("threads", "http")])
def test_calls_on_a_loop_belong_to_their_request(asynchronous, path, kind):
    seen = asynchronous.seen(*[f"/{path}?n=5"] * 2)
    call = max(calls(seen, f"GET /{path}"), key=lambda call: call.calls)
    assert (call.kind, call.calls, call.requests, call.most) == (kind, 10, 2, 5)
    assert any(line == asynchronous.lines[path] for _, line, _ in call.places[0].lines)
    leaves = [entry for entry in seen.requests if entry.name == "GET /leaf/{id}"]
    assert sum(entry.requests for entry in leaves) == (10 if kind == "http" else 0)


def test_no_secret_of_a_call_leaves_the_service(threaded):
    assert "geheim" not in threaded.seen("/urllib?n=1").model_dump_json()


def test_a_process_without_an_agent_has_none():
    assert not has_agent(os.getpid())
