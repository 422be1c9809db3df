"""perfloop try --set on a running service: a setting that helps stays, one that hurts is put back byte for byte."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVICE = """
import sys, time, tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    def do_GET(self):
        time.sleep(tomllib.load(open("app.toml", "rb"))["delay_s"])
        self.send_response(200); self.send_header("Content-Length", "4"); self.end_headers(); self.wfile.write(b"fine")
    def log_message(self, *_): pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
SETTINGS = "# how long an answer takes\ndelay_s = 0.05  # seconds\n"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "app.py").write_text(SERVICE)
    (tmp_path / "app.toml").write_text(SETTINGS)
    (tmp_path / "perfloop.toml").write_text(
        f'[target]\nurl = "http://127.0.0.1:{port}"\nenvironment = "sandbox"\n[changes]\nallow = "safe"\n[[journeys]]\npath = "/work"\n'
        "[measure]\nrate_per_s = 25\nwindow_s = 1\nwindows = 3\nwarmup_s = 0\npairs = 4\npairs_window_s = 1\nsettle_s = 0\nthroughput = false\n"
    )
    process = subprocess.Popen([sys.executable, "app.py", str(port)], cwd=tmp_path)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield tmp_path
    finally:
        process.kill()
        process.wait()


def perfloop(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PERFLOOP_STATE_DIR": str(folder / "state"), "NO_COLOR": "1"}
    return subprocess.run([sys.executable, "-m", "perfloop", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False)


def test_several_race_a_harmful_one_is_ended_in_flight_and_the_winner_is_kept_until_it_is_taken_back(folder: Path) -> None:
    values = ("0.03", "1.5", "0.002")
    done = perfloop(folder, "try", "--set", ",".join(f"app.toml:delay_s={value}" for value in values), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    by_value = {one["name"].rsplit(" ", 1)[-1]: one for one in answer["candidates"]}
    assert {value: by_value[value]["decision"] for value in values} == {"0.03": "undone", "1.5": "undone", "0.002": "kept"}
    assert "stopped in flight" in by_value["1.5"]["reason"]
    assert by_value["0.002"]["verdict"]["ratio"]["high"] < 1
    assert (folder / "app.toml").read_text() == SETTINGS.replace("0.05", "0.002")
    assert "4 trials of 20" in answer["notes"]
    log = json.loads(perfloop(folder, "log", "--json").stdout)["entries"]
    begun = [entry for entry in log if entry["outcome"] == "in_progress"]
    assert len(begun) * 2 == len(log)
    assert {entry["outcome"] for entry in log} == {"in_progress", "success", "rolled_back"}
    back = perfloop(folder, *by_value["0.002"]["commands"][0].split("#")[0].split()[1:])
    assert back.returncode == 0, back.stderr
    assert (folder / "app.toml").read_text() == SETTINGS


def test_one_that_hurts_is_put_back(folder: Path) -> None:
    worse = perfloop(folder, "try", "--set", "app.toml:delay_s=0.08", "--json")
    assert worse.returncode == 0, worse.stderr
    (candidate,) = json.loads(worse.stdout)["candidates"]
    assert candidate["decision"] == "undone"
    assert (folder / "app.toml").read_text() == SETTINGS


def test_nonsense_is_refused_before_anything_is_sent(folder: Path) -> None:
    for words in (["--set", "app.toml"], ["--set", "app.toml:delay_s=1", "--branch", "main"]):
        assert perfloop(folder, "try", *words).returncode == 2
    assert perfloop(folder, "try", "--set", "app.toml:no_such_key=1").returncode in (1, 2)
    assert (folder / "app.toml").read_text() == SETTINGS
