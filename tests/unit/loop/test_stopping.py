"""``perfloop stop`` ends real load, and says so in the audit log."""

from __future__ import annotations

import json
from pathlib import Path

from perfloop import api
from perfloop.load.run import run_window
from perfloop.model.journey import Step, Workload
from perfloop.model.requests import StopRequest
from services import Server


def audited(state: Path) -> list[dict]:
    return [json.loads(line) for file in sorted(state.rglob("*.jsonl")) for line in file.read_text().splitlines()]


def test_stop_ends_the_load_of_one_run_and_is_audited(nginx_server: Server, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("PERFLOOP_STATE_DIR", str(tmp_path))
    assert api.stop(StopRequest(run="nothing-runs")).stopped == ()
    assert audited(tmp_path) == []
    url = f"http://127.0.0.1:{nginx_server.port}"
    load = run_window(Workload(base_url=url, run_id="stop-me", steps=(Step(name="x", paths=("/",)),), rate_per_s=20, duration_s=30), "x")
    next(load)
    found = api.stop(StopRequest(run="stop-me"))
    assert found.ok
    assert [item.run_id for item in found.stopped] == ["stop-me"]
    assert api.stop(StopRequest(run="stop-me")).stopped == ()
    while True:
        try:
            next(load)
        except StopIteration as stop:
            window = stop.value
            break
    assert window.stopped_early == "ended by perfloop stop"
    lines = [line for line in audited(tmp_path) if line.get("operation") == "load_test_stop"]
    assert [line["outcome"] for line in lines] == ["in_progress", "success"]
    assert lines[0]["command"] == "perfloop stop stop-me"
    assert lines[0]["resources_affected"] == ["run:stop-me"]
