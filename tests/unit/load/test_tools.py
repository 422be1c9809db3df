"""Existing Locust and k6 scripts, run by Locust and k6 themselves on a real nginx; and what their streams say, from recordings."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from perfloop import api
from perfloop.errors import CannotMeasure, UsageError
from perfloop.load.engines import k6, locust, tools
from perfloop.load.engines.recorder import Recorder
from perfloop.load.run import run_window
from perfloop.load.stop import generators, stop_load
from perfloop.model.journey import Script, Workload
from perfloop.model.requests import LoadRequest
from perfloop.model.run import Window
from services import Server
from services.peers import peers

LOCUSTFILE = """
from locust import FastHttpUser, HttpUser, constant, task

class Shopper(HttpUser):
    wait_time = constant(0.02)

    @task(3)
    def home(self):
        self.client.get("/hello")

    @task
    def looked_at(self):
        with self.client.get("/other", catch_response=True) as reply:
            if reply.text != "something else":
                reply.failure("not something else")

class Fast(FastHttpUser):
    wait_time = constant(0.02)

    @task(3)
    def item(self):
        self.client.get("/items/1", name="/items/[id]")

    @task
    def elsewhere(self):
        self.client.get("http://192.0.2.1/", name="elsewhere")
"""
K6 = """
import http from 'k6/http';
import { check } from 'k6';
export const options = { vus: 2, iterations: 40, thresholds: { http_req_duration: ['p(95)<0.0001'] } };
export default function () {
  const reply = http.get(`${__ENV.BASE_URL}/hello`, { tags: { name: 'hello' } });
  check(reply, { 'is 200': (r) => r.status === 200, 'is a teapot': (r) => r.status === 418 });
  http.get('http://192.0.2.1/', { tags: { name: 'elsewhere' } });
}
"""


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{peers()}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "locustfile.py").write_text(LOCUSTFILE)
    (tmp_path / "shop.js").write_text(K6)
    return tmp_path


def work(server: Server, file: Path, tool: str, **words) -> Workload:
    given = {"duration_s": 2.0, "error_rate_stop": 1.0, "rate_per_s": 1.0, **words}
    if given.get("users"):
        given["rate_per_s"] = 0.0
    return Workload(base_url=f"http://127.0.0.1:{server.port}", script=Script(file=str(file), tool=tool), **given)


def rest(load: Iterator) -> Window:
    while True:
        try:
            next(load)
        except StopIteration as stop:
            window: Window = stop.value
            break
    for step in window.steps:
        assert step.sent == step.ok + sum(step.errors.values())
        assert step.ok == sum(step.latency.counts)
    assert sum(slot.sent for slot in window.per_second) == sum(step.sent for step in window.steps)
    return window


def test_a_locustfile_runs_on_locust(nginx_server: Server, files: Path) -> None:
    window = rest(run_window(work(nginx_server, files / "locustfile.py", "locust", users=4), "x", locust))
    steps = {step.name: step for step in window.steps}
    assert set(steps) == {"GET /hello", "GET /other", "GET /items/[id]", "GET elsewhere"}
    assert steps["GET /hello"].ok > 5
    assert steps["GET /hello"].errors == {}
    assert steps["GET /hello"].statuses == {200: steps["GET /hello"].ok}
    assert set(steps["GET /other"].errors) == {"check"}
    assert set(steps["GET elsewhere"].errors) == {"connect"}  # not the target: it was not let out
    assert "not 192.0.2.1" in window.first_errors["connect"]
    assert max(slot.users for slot in window.per_second) == 4
    assert window.generator_busy is not None


def test_a_k6_script_runs_on_k6(nginx_server: Server, files: Path) -> None:
    window = rest(run_window(work(nginx_server, files / "shop.js", "k6", duration_s=60), "x", k6))
    steps = {step.name: step for step in window.steps}
    assert (steps["GET hello"].sent, steps["GET hello"].ok) == (40, 40)
    assert steps["GET elsewhere"].errors == {"connect": 40}
    assert {check.name: (check.ok, check.failed) for check in window.checks} == {"is 200": (40, 0), "is a teapot": (0, 40)}
    assert window.journeys[0].ok == 40
    assert "thresholds" in window.first_errors
    assert window.duration_s < 30


def test_users_and_duration_of_k6_can_be_ours_and_stop_ends_it(nginx_server: Server, files: Path) -> None:
    load = run_window(work(nginx_server, files / "shop.js", "k6", users=3, duration_s=30, run_id="k6-run"), "x", k6)
    next(load)
    ((pid, _, _),) = generators("k6-run")
    (child,) = psutil.Process(pid).children()
    assert [item.how for item in stop_load("k6-run")] == ["stopped"]
    window = rest(load)
    assert window.stopped_early == "ended by perfloop stop"
    assert window.steps[0].ok > 0
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_closed_window_ends_the_tool(nginx_server: Server, files: Path) -> None:
    load = run_window(work(nginx_server, files / "locustfile.py", "locust", users=2, duration_s=30, run_id="gone"), "x", locust)
    next(load)
    ((pid, _, _),) = generators("gone")
    (child,) = psutil.Process(pid).children()
    load.close()
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_errors_above_the_bound_stop_it(nginx_server: Server, files: Path) -> None:
    (files / "bad.js").write_text("import http from 'k6/http';\nexport default function () { http.get(`${__ENV.BASE_URL}:1/`); }\n")
    window = rest(run_window(work(nginx_server, files / "bad.js", "k6", users=2, duration_s=30, error_rate_stop=0.5), "x", k6))
    assert "requests failed" in window.stopped_early


@pytest.mark.parametrize(
    ("name", "text", "engine", "said"),
    [("broken.js", "this is no script", k6, "Unexpected identifier"), ("broken.py", "from locust import nothing\n", locust, "ImportError")],
)
def test_a_script_that_cannot_run_says_what_the_tool_says(name: str, text: str, engine, said: str, nginx_server: Server, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CannotMeasure, match="could not run") as raised:
        rest(run_window(work(nginx_server, tmp_path / name, engine.ID, users=1), "x", engine))
    assert said in raised.value.why


def test_a_tool_that_is_not_there(nginx_server: Server, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    for engine, file in ((locust, "locustfile.py"), (k6, "shop.js")):
        assert "not installed" in engine.available()
        with pytest.raises(CannotMeasure, match="not installed") as raised:
            rest(run_window(work(nginx_server, files / file, engine.ID, users=1), "x", engine))
        assert f"pip install {engine.ID}" in raised.value.fix


def test_the_verb_takes_scripts_by_what_they_are(nginx_server: Server, files: Path, project: Path) -> None:
    (project / "perfloop.toml").write_text(
        '[target]\nenvironment = "sandbox"\n[slo]\nlatency_p95_ms = 2000\nerror_rate_max = 0.6\n[limits]\nerror_rate_stop = 1.0\n'
    )
    url = f"http://127.0.0.1:{nginx_server.port}"
    *_, result = drained(LoadRequest(url=url, source=str(files / "shop.js"), no_input=True))
    assert result.load_test.ok is True
    assert result.load_test.repeatable is False
    assert any("k6 sent the load" in note for note in result.notes)
    for words, why in (
        ({"source": "locustfile.py"}, "by users"),
        ({"source": "locustfile.py", "kind": "stress", "users": 3}, "stress"),
        ({"source": "shop.js", "workers": "tcp://127.0.0.1:1"}, "--workers"),
    ):
        with pytest.raises(UsageError, match=why) as raised:
            drained(LoadRequest(url=url, no_input=True, **{**words, "source": str(files / words["source"])}))
        assert raised.value.fix


def drained(request: LoadRequest) -> list:
    load, events = api.load(request), []
    while True:
        try:
            events.append(next(load))
        except StopIteration as stop:
            return [*events, stop.value]


def point(metric: str, value: float, **tags: str) -> bytes:
    data = {"time": "2026-11-24T19:00:00.123456789+01:00", "value": value, "tags": tags}
    return json.dumps({"metric": metric, "type": "Point", "data": data}, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [(1050, 0, "timeout"), (1211, 0, "timeout_connect"), (1212, 0, "connect"), (1101, 0, "connect"), (1110, 0, "connect"), (1220, 0, "reset"),
     (1201, 0, "reset"), (1310, 0, "connect"), (1600, 0, "protocol"), (1000, 0, "protocol"), (1404, 404, "status_4xx"), (1503, 503, "status_5xx")],
)  # fmt: skip
def test_k6_samples_end_in_exactly_one_class(code: int, status: int, expected: str) -> None:
    told = tools.Told(Recorder(10.0))
    k6.take(point("http_req_duration", 12.5, name="x", method="GET", status=str(status), error_code=str(code), expected_response="false"), told)
    k6.take(point("http_req_duration", 12.5, name="x", method="GET", status="200", expected_response="true"), told)
    k6.take(b'{"type":"Metric","data":{},"metric":"http_req_duration"}', told)
    k6.take(point("data_sent", 12.5), told)
    (step,) = told.recorder.second(1.0)["steps"]
    assert (step["sent"], step["ok"], step["errors"]) == (2, 1, {expected: 1})
    assert step["latency"]["sum_s"] == pytest.approx(0.0125, abs=1e-6)
    assert told.started_s == pytest.approx(told.ended_s - 0.0125, abs=1e-6)


def test_only_the_target_and_loopback_are_left_open() -> None:
    from ipaddress import ip_address, ip_network

    networks = [ip_network(text) for text in tools.forbidden("http://127.0.0.1:80")]
    barred = {
        address: any(ip_address(address) in network for network in networks)
        for address in ("127.0.0.1", "127.255.0.9", "10.0.0.1", "128.0.0.1", "::1", "2001:db8::1")
    }
    assert barred == {"127.0.0.1": False, "127.255.0.9": False, "10.0.0.1": True, "128.0.0.1": True, "::1": False, "2001:db8::1": True}
