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


def test_what_helps_is_kept_and_what_hurts_is_put_back(folder: Path) -> None:
    worse = perfloop(folder, "try", "--set", "app.toml:delay_s=0.2", "--json")
    assert worse.returncode == 0, worse.stderr
    (candidate,) = json.loads(worse.stdout)["candidates"]
    assert candidate["decision"] == "undone"
    assert (folder / "app.toml").read_text() == SETTINGS
    better = perfloop(folder, "try", "--set", "app.toml:delay_s=0.002", "--json")
    assert better.returncode == 0, better.stderr
    (candidate,) = json.loads(better.stdout)["candidates"]
    assert candidate["decision"] == "kept"
    assert candidate["verdict"]["ratio"]["high"] < 1
    assert (folder / "app.toml").read_text() == SETTINGS.replace("0.05", "0.002")
    back = perfloop(folder, *candidate["commands"][0].split("#")[0].split()[1:])
    assert back.returncode == 0, back.stderr
    assert (folder / "app.toml").read_text() == SETTINGS


def test_nonsense_is_refused_before_anything_is_sent(folder: Path) -> None:
    for words in (["--set", "app.toml"], ["--set", "app.toml:delay_s=1", "--branch", "main"]):
        assert perfloop(folder, "try", *words).returncode == 2
    assert perfloop(folder, "try", "--set", "app.toml:no_such_key=1").returncode in (1, 2)
    assert (folder / "app.toml").read_text() == SETTINGS
