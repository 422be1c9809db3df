"""Starts the five real services of the bench on one core, each with a configuration of perfloop, and ends them by their pids."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from perfloop_shop.stack import Stack

NAMES = ("cpu", "pool", "lock", "nginx", "shop")
#: the kinds of resource that are right for each service
RIGHT = {"cpu": ("cpu",), "pool": ("connections",), "lock": ("lock",), "nginx": ("cpu",), "shop": ("cpu",)}
SLO_MS = {"cpu": 60.0, "pool": 120.0, "lock": 60.0, "nginx": 30.0}
RATE_MAX = 5_000
LEVELS = [1, 2, 4, 16, 48]
TEMPLATES = Path(__file__).parent.parent.parent / ".demo" / "template"
APPS = Path(__file__).with_name("apps.py")


@dataclass(frozen=True)
class Running:
    """A service under test."""

    name: str
    url: str
    config: Path
    pid: int


@contextmanager
def running(name: str, folder: Path) -> Iterator[Running]:
    """The service, started in a folder of its own; ended on the way out."""
    with ExitStack() as stack:
        if name == "shop":
            shop = stack.enter_context(Stack((), folder / "shop", TEMPLATES))
            text = shop.config_path.read_text()
            shop.config_path.write_text(text + f"\n[limits]\nrate_max_per_s = {RATE_MAX}\n[capacity]\nlevels = {LEVELS}\n")
            yield Running(name, shop.url, shop.config_path, shop.pid() or 0)
            return
        port = _free_port()
        argv, extra = _argv(name, port, folder, stack)
        process = stack.enter_context(_process(argv, folder, name))
        _answers(port, process)
        config = folder / "perfloop.toml"
        path = "/data.json" if name == "nginx" else "/"
        config.write_text(
            f'[target]\nname = "{name}"\nurl = "http://127.0.0.1:{port}"\nenvironment = "sandbox"\nsource_root = "{APPS.parent}"\n{extra}\n'
            f"[slo]\nlatency_p95_ms = {SLO_MS[name]}\nerror_rate_max = 0.01\n[limits]\nrate_max_per_s = {RATE_MAX}\n[capacity]\nlevels = {LEVELS}\n"
            f'[[journeys]]\nname = "main"\npath = "{path}"\n' + ('headers = { "accept-encoding" = "gzip" }\n' if name == "nginx" else "")
        )
        yield Running(name, f"http://127.0.0.1:{port}", config, process.pid)


def _argv(name: str, port: int, folder: Path, stack: ExitStack) -> tuple[list[str], str]:
    if name == "nginx":
        return _nginx(port, folder), ""
    argv = [sys.executable, str(APPS), name, str(port)]
    if name == "pool":
        shop = stack.enter_context(Stack((), folder / "shop", TEMPLATES, cpus=_cpus()))
        return [*argv, (shop.work_dir / "owner.dsn").read_text().strip()], ""
    return argv, ""


def _nginx(port: int, folder: Path) -> list[str]:
    """One worker that compresses half a megabyte of JSON for each request."""
    (folder / "www").mkdir()
    folder.chmod(0o755)
    rows = ",".join(f'{{"id": {n}, "name": "item {n * 7919 % 10007}", "price": {n * 31 % 997 / 10}}}' for n in range(3_000))
    (folder / "www" / "data.json").write_text(f"[{rows}]")
    config = folder / "nginx.conf"
    config.write_text(
        f"worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; user root;\n"
        "events { worker_connections 2048; }\n"
        f"http {{ access_log off; gzip on; gzip_types application/json; gzip_comp_level 6; types {{ application/json json; }}\n"
        f"client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n"
        f"server {{ listen 127.0.0.1:{port} backlog=1024; root {folder}/www; }} }}\n"
    )
    return [shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin") or "nginx", "-c", str(config), "-p", str(folder)]


@contextmanager
def _process(argv: list[str], folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(["taskset", "-c", str(_cpus()[0]), *argv], stdout=log, stderr=log, cwd=folder)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _cpus() -> tuple[int, ...]:
    return (min(os.sched_getaffinity(0)) if len(os.sched_getaffinity(0)) > 1 else 0,)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).read()
            return
        except OSError as error:
            if getattr(error, "code", None):
                return
            if process.poll() is not None:
                raise SystemExit(f"the service ended with {process.returncode}") from None
            time.sleep(0.1)
    raise SystemExit("the service does not answer")
