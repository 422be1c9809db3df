from __future__ import annotations

import http.client
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfloop.model.result import RunResult

pytest.importorskip("starlette")


@pytest.fixture
def address(project: Path, stored: RunResult) -> Iterator[tuple[int, str, RunResult]]:
    """`perfloop ui` as a process: its port, its token, and the run that it shows."""
    process = subprocess.Popen([sys.executable, "-m", "perfloop", "ui"], stderr=subprocess.PIPE, text=True, cwd=project)
    try:
        assert process.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)/([\w-]+)/", process.stderr.readline())
        assert found
        yield int(found[1]), found[2], stored
    finally:
        process.terminate()
        process.wait(10)


def _get(port: int, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def test_pages_and_walls(address: tuple[int, str, RunResult]) -> None:
    port, token, result = address
    status, text, headers = _get(port, f"/{token}/")
    assert (status, result.run_id in text) == (200, True)
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "<script>alert" not in text
    status, text, _ = _get(port, f"/{token}/runs/{result.run_id}")
    assert (status, "p95\u00a0fell" in text or "p95 fell" in text) == (200, True)
    assert _get(port, f"/{token}/runs/no-such-run")[0] == 404
    assert _get(port, f"/{token}/runs/..%2f..%2fetc%2fpasswd")[0] == 404
    assert _get(port, "/")[0] == 404
    assert _get(port, f"/{token[:-1]}/")[0] == 404
    assert _get(port, f"/{token}/", Host="evil.example")[0] == 403
    assert _get(port, f"/{token}/", Origin="http://evil.example")[0] == 403
    assert _get(port, f"/{token}/", Origin=f"http://127.0.0.1:{port}")[0] == 200
    assert _get(port, f"/{token}/", method="POST", body=b"x")[0] == 405
    assert _get(port, f"/{token}/", body=b"x" * 10_000)[0] == 413
