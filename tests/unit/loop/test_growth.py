"""``perfloop capacity`` on a real process: the whole verb with short windows, what it refuses, and where the growth comes from."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perfloop import api
from perfloop.errors import UsageError
from perfloop.loop import bursts, growth, reach
from perfloop.loop.history import rates
from perfloop.loop.rightsize import limits_to_try
from perfloop.model.event import Event
from perfloop.model.requests import CapacityRequest, ContextRequest
from perfloop.model.result import RunResult
from perfloop.report.formats import html, markdown, terminal
from services.hashing import APP


@pytest.fixture
def service(project: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (project / "app.py").write_text(APP)
    process = subprocess.Popen([sys.executable, "app.py", str(port)], cwd=project)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            break
        except OSError:
            time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (reach, "WINDOW_S", 0.5), (reach, "IDLE_S", 0.2), (reach, "LOOKS", 1), (reach, "LOOK_S", 0.8), (reach, "CLIMB_S", 0.4),
        (reach, "SHARES", (0.1, 0.2, 0.4)), (reach, "CLIMB_START_PER_S", 16.0), (reach, "RESTARTS", 0), (bursts, "WINDOWS", 1), (bursts, "REPEATS", 3),
        (growth, "LEVEL_S", 0.3), (growth, "LEVEL_ROUNDS", 2), (growth, "PROBE_S", 0.5), (growth, "PROBES_MAX", 3),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


def run(request: CapacityRequest) -> tuple[RunResult, list[Event]]:
    events, work = [], api.capacity(request)
    while True:
        try:
            events.append(next(work))
        except StopIteration as stop:
            return stop.value, events


def test_the_whole_plan_from_one_command(service: str, project: Path, short: None) -> None:
    (project / "perfloop.toml").write_text('[slo]\nlatency_p95_ms = 2000\n[target]\nenvironment = "sandbox"\n[capacity]\nlevels = [1, 2, 4]\nstartup_s = 5\n')
    result, _ = run(CapacityRequest(url=service, growth="5x", now_per_s=20, rounds=2))
    plan = result.capacity_plan
    assert plan is not None
    assert result.state == "done"
    assert any(item.kind == "cpu" and item.demand and item.demand.value > 0 for item in plan.demands)
    assert plan.rate_slo is not None
    assert plan.saturated_per_s is not None
    assert {need.factor for need in plan.needs} == {1.0, 2.0, 5.0, 10.0}
    assert plan.needs[2].rate_per_s == 100
    assert plan.policy is not None
    assert {run.policy for run in plan.policy.simulated} == {"derived", "80 % CPU"}
    assert plan.thresholds[0].name == "highest rate under the SLO"
    assert result.capacity is not None
    assert len(result.capacity.points) >= 5
    folder = project / ".perfloop" / "runs" / result.run_id
    assert {"alerts.yaml", "dashboard.json", "autoscaler.yaml", "target-tracking.json", "report.html"} <= {path.name for path in folder.iterdir()}
    json.loads((folder / "dashboard.json").read_text())
    for text in (html.render(result), markdown.render(result), terminal.render(result)):
        assert "Order of saturation" in text
        assert "What a growth takes" in text
    assert not any(line in result.notes for line in ("STUCK",))


def test_gentle_sends_no_more_than_its_share_and_measures_no_end(service: str, project: Path, short: None) -> None:
    (project / "perfloop.toml").write_text('[target]\nenvironment = "production"\n')
    result, _ = run(CapacityRequest(url=service, growth="2x", now_per_s=5, rounds=2))
    plan = result.capacity_plan
    assert plan is not None
    assert plan.saturated_per_s is None
    assert plan.closed == ()
    assert max(point.rate_per_s for point in plan.points) <= plan.gentle_max_per_s * 1.01
    assert any("only up to 40 %" in item for item in plan.unknown)
    assert plan.predicted_per_s is not None
    told = api.context(ContextRequest()).scalability_requirements
    assert told["end_predicted_per_s"] == plan.predicted_per_s.value
    assert told["end_measured_per_s"] is None
    assert "Throughput by users" not in html.render(result)


def test_each_smaller_limit_is_tried_once_from_the_tightest() -> None:
    assert limits_to_try(0.05, 1.0) == [0.1, 0.15, 0.2]
    assert limits_to_try(0.7, 1.2) == [1.0]
    assert limits_to_try(0.9, 1.0) == []


@pytest.mark.parametrize(("growth_text", "bound"), [("0.5x", "1x to 1000x"), ("2000x", "1x to 1000x"), ("much", "write 10x")])
def test_a_growth_out_of_bounds_is_refused_by_name(growth_text: str, bound: str) -> None:
    with pytest.raises(ValueError, match=bound):
        CapacityRequest(growth=growth_text)


def test_a_table_that_is_not_there_is_refused(service: str, project: Path, short: None) -> None:
    (project / "perfloop.toml").write_text('[capacity]\ninstances = "mine.toml"\n')
    with pytest.raises(UsageError, match="mine"):
        run(CapacityRequest(url=service, gentle=True, growth="2x", rounds=2))


def test_the_hours_of_an_access_log_are_read_without_their_broken_ends() -> None:
    start = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)
    lines = [f'1.2.3.4 - - [{start + timedelta(seconds=10 * n):%d/%b/%Y:%H:%M:%S} +0000] "GET / HTTP/1.1" 200 5 "-" "-"' for n in range(6 * 360)]
    found = rates([*lines, "no log line", "[31/Foo/2026:10:00:00 +0000]"])
    assert len(found) == 5
    assert all(rate == pytest.approx(0.1) for _, rate in found)
    assert rates([]) == []
