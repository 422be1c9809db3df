"""Starts the real services of the bench on one core, each with a configuration of perfloop, and ends them by their pids."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from perfloop.host.processes import descendants
from perfloop_shop.stack import Stack

NAMES = ("cpu", "pool", "lock", "nginx", "shop")
#: looked at only after the way to predict was settled on the five
HELD_OUT = ("node", "queries")
#: the kinds of resource that are right for each service
RIGHT = {
    "cpu": ("cpu",), "pool": ("connections",), "lock": ("lock",), "nginx": ("cpu",), "shop": ("cpu",), "node": ("cpu",), "queries": ("cpu", "database"),
}  # fmt: skip
SLO_MS = {"cpu": 60.0, "pool": 120.0, "lock": 60.0, "nginx": 30.0, "node": 40.0, "queries": 80.0}
#: by how far the sweep goes: once, and doubled
RATE_MAX = {1: 5_000, 2: 10_000}
LEVELS = {1: [1, 2, 4, 16, 48], 2: [1, 2, 4, 16, 48, 96]}
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
def running(name: str, folder: Path, sweep: int = 1) -> Iterator[Running]:
    """The service, started in a folder of its own; ended on the way out."""
    bounds = f"[limits]\nrate_max_per_s = {RATE_MAX[sweep]}\n[capacity]\nlevels = {LEVELS[sweep]}\n"
    with ExitStack() as stack:
        shops: list[Stack] = []
        stack.enter_context(first(lambda: [os.getpid(), *(pid for shop in shops for part in ("shop", "supplier", "postgres") if (pid := shop.pid(part)))]))
        if name == "shop":
            shop = stack.enter_context(Stack((), folder / "shop", TEMPLATES))
            shops.append(shop)
            text = shop.config_path.read_text()
            shop.config_path.write_text(text + "\n" + bounds)
            yield Running(name, shop.url, shop.config_path, shop.pid() or 0)
            return
        port = _free_port()
        argv, extra = _argv(name, port, folder, stack, shops)
        process = stack.enter_context(_process(argv, folder, name))
        _answers(port, process)
        config = folder / "perfloop.toml"
        path = "/data.json" if name == "nginx" else "/"
        config.write_text(
            f'[target]\nname = "{name}"\nurl = "http://127.0.0.1:{port}"\nenvironment = "sandbox"\nsource_root = "{APPS.parent}"\n{extra}\n'
            f"[slo]\nlatency_p95_ms = {SLO_MS[name]}\nerror_rate_max = 0.01\n{bounds}"
            f'[[journeys]]\nname = "main"\npath = "{path}"\n' + ('headers = { "accept-encoding" = "gzip" }\n' if name == "nginx" else "")
        )
        yield Running(name, f"http://127.0.0.1:{port}", config, process.pid)


@contextmanager
def first(roots: Callable[[], Iterable[int]]) -> Iterator[None]:
    """These processes and all below them go before the rest of the machine, also where the kernel shares cores between sessions (autogroups).

    A service that gets half of a core has half of a capacity: what is measured would be the neighbours. Needs root; without it nothing is changed, nor
    where we were started to give way ourselves.
    """
    if os.sched_getscheduler(0) == os.SCHED_IDLE:
        yield
        return
    over, known = threading.Event(), set[int]()

    def watch() -> None:
        while not over.wait(0.25):
            for root in roots():
                for pid in (root, *descendants(root)):
                    if pid not in known:
                        known.add(pid)
                        with suppress(OSError):
                            Path(f"/proc/{pid}/autogroup").write_text("-20")

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _argv(name: str, port: int, folder: Path, stack: ExitStack, shops: list[Stack]) -> tuple[list[str], str]:
    if name == "nginx":
        return _nginx(port, folder), ""
    if name == "node":
        return ["node", str(APPS.with_name("app.js")), str(port)], ""
    argv = [sys.executable, str(APPS), name, str(port)]
    if name in ("pool", "queries"):
        shop = stack.enter_context(Stack((), folder / "shop", TEMPLATES, cpus=_cpus()))
        shops.append(shop)
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
