"""The demo shop's problems: each switch really changes what the service does."""

from __future__ import annotations

import json
import os
import threading
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

if TYPE_CHECKING:
    from perfloop_shop.stack import Stack

pytestmark = pytest.mark.shop


def get(stack: Stack, path: str) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(stack.url + path, timeout=20) as answer:
        assert answer.status == 200
        return json.load(answer)


def statements(stack: Stack, path: str) -> list[str]:
    """The statements that one request makes the service send, from the server's own log."""
    with stack.admin() as admin:
        for sign in ("", "done"):  # marks in the log, to read between
            if sign:
                get(stack, path)
            admin.execute("SET log_statement = 'all'")
            admin.execute(f"SELECT 'mark{sign} {path}'".encode())
    text = (stack.work_dir / "postgres.log").read_text()
    between = text.rpartition(f"markdone {path}")[0].rpartition(f"mark {path}")[2].rpartition("\n")[0]
    return [line for line in between.splitlines() if "SELECT" in line]


@pytest.fixture(scope="module")
def logged(healthy: Stack, troubled: Stack) -> tuple[Stack, Stack]:
    for stack in (healthy, troubled):
        with stack.admin() as admin:
            admin.execute("ALTER ROLE shop SET log_statement = 'all'")
        stack.restart_service()
        get(stack, "/orders/recent")
    return healthy, troubled


def test_missing_index(healthy: Stack, troubled: Stack) -> None:
    query = "SELECT count(*) FROM pg_indexes WHERE tablename = 'orders' AND indexdef LIKE '%(customer_id)'"
    for stack, expected in ((healthy, 1), (troubled, 0)):
        with stack.admin() as admin:
            assert admin.execute(query).fetchone() == (expected,)


def test_n_plus_one(logged: tuple[Stack, Stack]) -> None:
    few, many = (len(statements(stack, "/orders/recent?limit=20")) for stack in logged)
    assert few <= 4
    assert many >= 40


def test_cache_ineffective(logged: tuple[Stack, Stack]) -> None:
    for stack in logged:
        get(stack, "/reports/bestsellers?limit=9")
    hit, miss = (len(statements(stack, "/reports/bestsellers?limit=9")) for stack in logged)
    assert (hit, miss > 0) == (0, True)


def test_pool_exhausted(healthy: Stack, troubled: Stack) -> None:
    assert tomllib.loads((healthy.work_dir / "shop.toml").read_text())["database"]["pool_size"] == 10
    assert tomllib.loads((troubled.work_dir / "shop.toml").read_text())["database"]["pool_size"] == 1
    query = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'shop' AND state = 'idle in transaction'"
    seen = 0
    with ThreadPoolExecutor(4) as pool, troubled.admin() as admin:
        asked = [pool.submit(get, troubled, f"/products/{n}/availability") for n in range(1, 9)]
        while not all(request.done() for request in asked):
            row = admin.execute(query).fetchone()
            seen = max(seen, row[0] if row else 0)
    # One request waits for the supplier with the only connection, the others for that connection.
    assert seen == 1


class Counting(BaseHTTPRequestHandler):
    """A supplier that notes how many requests it has at once."""

    guard = threading.Lock()
    now: ClassVar[int] = 0
    most: ClassVar[int] = 0

    def do_GET(self) -> None:
        with Counting.guard:
            Counting.now += 1
            Counting.most = max(Counting.most, Counting.now)
        time.sleep(0.1)
        with Counting.guard:
            Counting.now -= 1
        body = b'{"units": 1, "cents": 1, "days": 1}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def counted(stack: Stack) -> Iterator[None]:
    """The service asks the counting supplier for a while, with connections enough that only a lock could keep requests apart."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    path = stack.work_dir / "shop.toml"
    before = path.read_text()
    Counting.most = 0
    try:
        path.write_text(before.replace(f":{stack.supplier_port}", f":{server.server_port}").replace("pool_size = 1\n", "pool_size = 4\n"))
        stack.restart_service()
        yield
    finally:
        path.write_text(before)
        server.shutdown()
        server.server_close()
        stack.restart_service()


@pytest.mark.parametrize("kind", ["quote", "availability"], ids=["event-loop-blocked", "lock-contention"])
def test_the_supplier_is_asked_by_many_at_once_or_by_one(kind: str, healthy: Stack, troubled: Stack) -> None:
    at_once = []
    for stack in (healthy, troubled):
        with counted(stack), ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda n, s=stack: get(s, f"/products/{n}/{kind}"), range(1, 13)))
            at_once.append(Counting.most)
    assert at_once[0] > 1
    assert at_once[1] == 1


def test_cpu_hot_spot(healthy: Stack, troubled: Stack) -> None:
    assert [len(get(stack, "/products?limit=1")[0]["tag"]) for stack in (healthy, troubled)] == [8, 4]


def test_superlinear(healthy: Stack, troubled: Stack) -> None:
    names = [get(s, "/openapi.json")["paths"]["/reports/buyers"]["get"]["operationId"] for s in (healthy, troubled)]
    assert names[0] != names[1]
    assert get(healthy, "/reports/buyers?limit=400") == get(troubled, "/reports/buyers?limit=400")


def test_memory_leak(healthy: Stack, troubled: Stack) -> None:
    growth = []
    for stack in (healthy, troubled):
        for _ in range(60):
            get(stack, "/products?limit=100")
        before = _rss_bytes(stack)
        for _ in range(100):
            get(stack, "/products?limit=100")
        growth.append(_rss_bytes(stack) - before)
    assert growth[0] < 4 * 2**20
    assert growth[1] > 8 * 2**20


def _rss_bytes(stack: Stack) -> int:
    return int(Path(f"/proc/{stack.pid()}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_slow_downstream(troubled: Stack) -> None:
    begun = time.monotonic()
    get(troubled, "/products/5/quote")
    assert time.monotonic() - begun >= 0.18
