"""A real service on a real PostgreSQL whose round trips are known: ``service.py serve|restart|stop FOLDER``, settings in FOLDER/app.toml (port, database.url).

``/serial?n=`` n queries one after another · ``/parallel?n=`` n queries at once, each on its own connection · ``/pipelined?n=`` n queries in one turn ·
``/after?n=`` n queries in a thread that nobody waits for · ``/compute?ms=`` CPU time · ``/wait?ms=`` a sleep · ``/health``.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg

QUERY = "SELECT g FROM generate_series(1, 3) g WHERE g <> %s"
POOL = 16
MANY = 30  # for a request without a number to vary


class Pool:
    """Connections, opened when first wanted."""

    def __init__(self, url: str) -> None:
        self._url, self._free = url, queue.SimpleQueue[psycopg.Connection]()
        self._left = threading.Semaphore(POOL)

    @contextmanager
    def one(self) -> Iterator[psycopg.Connection]:
        with self._left:
            try:
                connection = self._free.get_nowait()
            except queue.Empty:
                connection = psycopg.connect(self._url, autocommit=True, prepare_threshold=None)
            try:
                yield connection
            finally:
                self._free.put(connection)


def serve(folder: Path) -> None:
    settings = tomllib.loads((folder / "app.toml").read_text())
    pool, workers = Pool(settings["database"]["url"]), ThreadPoolExecutor(POOL)

    def ask(number: int) -> None:
        with pool.one() as connection:
            connection.execute(QUERY, (number,)).fetchall()

    def serial(count: int) -> None:
        with pool.one() as connection:
            for number in range(count):
                connection.execute(QUERY, (number,)).fetchall()

    def pipelined(count: int) -> None:
        with pool.one() as connection, connection.pipeline():
            for number in range(count):
                connection.execute(QUERY, (number,))

    def compute(count: int) -> None:
        end = time.thread_time() + count / 1000
        while time.thread_time() < end:
            sum(range(2000))

    work = {
        "/serial": serial,
        "/parallel": lambda count: list(workers.map(ask, range(count))),
        "/pipelined": pipelined,
        "/after": lambda count: workers.submit(serial, count),
        "/compute": compute,
        "/wait": lambda count: time.sleep(count / 1000),
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two segments

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            given = parse_qs(parts.query)
            if parts.path in work:
                wanted = (given.get("n") or given.get("ms") or ["1"])[0]
                work[parts.path](MANY if wanted == "many" else int(wanted))
            body = b"done\n"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    Server(("127.0.0.1", settings["port"]), Handler).serve_forever()


def stop(folder: Path) -> None:
    pid_file = folder / "pid"
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    for _ in range(250):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.02)


def start(folder: Path) -> None:
    cpus = os.environ.get("SERVICE_CPUS", "")
    pinned = ["taskset", "-c", cpus] if cpus else []
    argv = [*pinned, sys.executable, __file__, "serve", str(folder)]
    process = subprocess.Popen(argv, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=(folder / "log").open("a"))
    (folder / "pid").write_text(str(process.pid))


if __name__ == "__main__":
    where = Path(sys.argv[2])
    if sys.argv[1] == "serve":
        serve(where)
    else:
        stop(where)
        if sys.argv[1] == "restart":
            start(where)
