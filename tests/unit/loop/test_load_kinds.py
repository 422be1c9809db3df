"""``perfloop load``: every kind on a real nginx, by the api, with its own answer; and the hooks around it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perfloop import api
from perfloop.cli.exits import of_run
from perfloop.errors import CannotMeasure, ChangeRefused, UsageError
from perfloop.loop import load_kinds, load_shapes, measure
from perfloop.model.loadtest import LoadKind
from perfloop.model.requests import LoadRequest, ReportRequest
from perfloop.model.result import RunResult
from perfloop.store.runs import RunStore

HOOKS = """
[hooks]
set_up = "sh -c 'echo up{size} >> hooks.txt'"
tear_down = "sh -c 'echo down{size} >> hooks.txt'"
"""


@pytest.fixture
def configure(project: Path) -> Callable[[str], None]:
    """Writes the project's configuration: a sandbox with short windows, and more."""

    def write(more: str = "") -> None:
        (project / "perfloop.toml").write_text(
            '[target]\nenvironment = "sandbox"\n[measure]\nwindows = 3\nwindow_s = 1\nwarmup_s = 0\n[slo]\nlatency_p95_ms = 2000\nerror_rate_max = 0.2\n' + more
        )

    return write


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    shorter = {"LOAD_S": 2.0, "SPIKE_S": 11.0, "SOAK_S": 4.0, "PROBE_S": 0.5, "PROBE_MAX_S": 0.5, "LEVEL_S": 0.6, "PROBES_MAX": 4}
    for name, value in shorter.items():
        monkeypatch.setattr(load_kinds, name, value)
    for name in ("CEILING_S", "CLOSED_MIN_S"):
        monkeypatch.setattr(load_shapes, name, 0.3)
    monkeypatch.setattr(measure, "CALM_WINDOW_S", 0.3)
    # this machine may be busy with other tests; lateness has its own
    monkeypatch.setattr("perfloop.load.run.generator_ok", lambda *_: True)


def run(**words) -> RunResult:
    events = api.load(LoadRequest(no_input=True, **words))
    while True:
        try:
            next(events)
        except StopIteration as stop:
            return stop.value


def url(server) -> str:
    return f"http://127.0.0.1:{server.port}"


def lines(project: Path) -> list[str]:
    path = project / "hooks.txt"
    return path.read_text().split() if path.exists() else []


def test_load_against_the_slo_with_its_hooks(configure, project, nginx_server):
    configure(HOOKS)
    result = run(url=url(nginx_server), rate_per_s=40)
    assert result.load_test.ok is True, result.load_test
    assert result.load_test.kind == LoadKind.LOAD
    assert of_run(result) == 0
    assert lines(project) == ["up{size}", "down{size}"]
    assert [hook.name for hook in result.load_test.hooks] == ["set_up", "tear_down"]
    assert api.report(ReportRequest(format="markdown")).count("latency p95") >= 1


def test_an_slo_that_is_missed_is_a_no(configure, nginx_server, project):
    configure()
    text = (project / "perfloop.toml").read_text().replace("latency_p95_ms = 2000", "latency_p95_ms = 0.001")
    (project / "perfloop.toml").write_text(text)
    result = run(url=url(nginx_server), rate_per_s=40)
    assert result.load_test.ok is False
    assert of_run(result) == 1


def test_closed_users_after_a_ramp(configure, nginx_server):
    configure()
    result = run(url=url(nginx_server), users=3, ramp_up="1s")
    assert result.load_test.ok is True
    assert all(window.users == 3 for window in result.load_test.windows)


def test_stress_is_bounded_by_the_limit(configure, nginx_server):
    configure("[limits]\nrate_max_per_s = 30\n")
    result = run(url=url(nginx_server), kind="stress")
    assert result.load_test.ok is None
    assert "not reached" in result.load_test.answer
    assert run(url=url(nginx_server), kind="stress", need_per_s=20).load_test.ok is True


def test_spike(configure, nginx_server):
    configure()
    result = run(url=url(nginx_server), kind="spike", rate_per_s=30, factor=3)
    names = [measure.name for measure in result.load_test.measures]
    assert any(name.startswith("recovery") for name in names), result.load_test
    with pytest.raises(UsageError, match="rate_max_per_s"):
        run(url=url(nginx_server), kind="spike", rate_per_s=30, factor=100)


def test_soak_reads_the_processes(configure, nginx_server):
    configure()
    result = run(url=url(nginx_server), kind="soak", rate_per_s=30)
    assert {reading.name for reading in result.load_test.readings} == {"memory_bytes", "threads", "files", "connections"}
    assert any("drift of memory" in measure.name for measure in result.load_test.measures)


def test_volume_prepares_each_size(configure, project, nginx_server):
    configure(HOOKS)
    result = run(url=url(nginx_server), kind="volume", levels=(1, 10, 100))
    assert lines(project) == ["up1", "down1", "up10", "down10", "up100", "down100"]
    assert [level.x for level in result.load_test.levels] == [1, 1, 10, 10, 100, 100]
    with pytest.raises(UsageError, match="three sizes"):
        run(url=url(nginx_server), kind="volume", levels=(1, 2))


def test_scalability_gives_points_for_the_law(configure, nginx_server):
    configure()
    result = run(url=url(nginx_server), kind="scalability", levels=(1, 2, 4))
    assert {level.x for level in result.load_test.levels} == {1, 2, 4}
    assert len(result.capacity.points) == 6


def test_a_baseline_and_its_regression_and_what_changes_data(configure, nginx_server, project):
    posts = '[[journeys]]\npath = "/x"\nmethod = "POST"\n'
    configure(posts)
    result = run(url=url(nginx_server), kind="baseline", rate_per_s=40, name="v1")
    assert result.load_test.ok is True
    assert result.load_test.repeatable is False
    with pytest.raises(UsageError, match="cannot be compared"):
        run(url=url(nginx_server), kind="regression", name="v1")
    configure(posts + '[hooks]\nreset = "true"\n')
    result = run(url=url(nginx_server), kind="regression", name="v1")
    assert result.load_test.verdict is not None
    assert result.load_test.repeatable is True
    assert result.rate_per_s == 40
    with pytest.raises(UsageError):
        run(url=url(nginx_server), kind="regression", name="unknown")


def test_requests_from_files(configure, nginx_server, project):
    configure()
    (project / "access.log").write_text("".join(f'::1 - - [10/Oct/2024:13:55:{s:02d} +0000] "GET /a HTTP/1.1" 200 5\n' for s in range(2) for _ in range(5)))
    result = run(url=url(nginx_server), source="access.log", replay=True)
    assert result.load_test.windows[0].steps[0].sent == 10
    (project / "journeys.py").write_text("async def look(user):\n    await user.get('/hello')\n")
    result = run(url=url(nginx_server), source="journeys.py", rate_per_s=20)
    assert result.load_test.windows[0].steps[0].ok > 0
    for bad in ("missing.har", "perfloop.toml"):
        with pytest.raises(UsageError):
            run(url=url(nginx_server), source=bad, rate_per_s=20)
    with pytest.raises(UsageError, match="replay"):
        run(url=url(nginx_server), source="journeys.py", replay=True)


def test_hooks_after_failures(configure, project, nginx_server, free_port_of):
    configure(HOOKS.replace("echo up{size} >> hooks.txt", "echo up >> hooks.txt; exit 3"))
    with pytest.raises(ChangeRefused, match="could not be prepared"):
        run(url=url(nginx_server), rate_per_s=40)
    assert lines(project) == ["up", "down{size}"]
    (project / "hooks.txt").unlink()
    configure(HOOKS)
    port = free_port_of(b"HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(CannotMeasure):
        run(url=f"http://127.0.0.1:{port}", rate_per_s=40)
    assert lines(project) == ["up{size}", "down{size}"]


@pytest.fixture
def free_port_of() -> Iterator[Callable[[bytes], int]]:
    """A server that answers everything with these bytes; returns its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def start(answer: bytes) -> int:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await reader.readuntil(b"\r\n\r\n"):
                    writer.write(answer)
            except (OSError, asyncio.IncompleteReadError):
                writer.close()

        async def listen() -> int:
            return (await asyncio.start_server(handle, "127.0.0.1", 0)).sockets[0].getsockname()[1]

        return asyncio.run_coroutine_threadsafe(listen(), loop).result(10)

    yield start
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_hooks_after_a_stop_and_a_kill(configure, project, nginx_server, number, code):
    configure(HOOKS)
    argv = [sys.executable, "-m", "perfloop", "load", url(nginx_server), "--rate-per-s", "20", "--duration", "60s", "-q"]
    process = subprocess.Popen(argv, cwd=project, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while lines(project) != ["up{size}"] and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(2.5)
    os.kill(process.pid, number)
    assert process.wait(60) == code
    if number == signal.SIGINT:  # what was measured until then is kept
        result = RunStore(project).load_result("last")
        assert result.state == "interrupted"
        assert result.before.total.ok > 0
        assert result.load_test.ok is None
        assert result.load_test.windows[0].stopped_early == "interrupted"
    while len(lines(project)) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert lines(project) == ["up{size}", "down{size}"]
