"""``perfloop load``: every kind on a real nginx, by the api, with its own answer; and the hooks around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from perfloop import api
from perfloop.cli.exits import of_run
from perfloop.errors import UsageError
from perfloop.loop import load_kinds, load_shapes
from perfloop.model.loadtest import LoadKind
from perfloop.model.requests import LoadRequest, ReportRequest
from perfloop.model.result import RunResult

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
    for name, value in (("LOAD_S", 4.0), ("SPIKE_S", 12.0), ("SOAK_S", 4.0), ("PROBE_S", 1.0), ("PROBE_MAX_S", 1.0), ("LEVEL_S", 2.0)):
        monkeypatch.setattr(load_kinds, name, value)
    monkeypatch.setattr(load_shapes, "CEILING_S", 1.0)
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
