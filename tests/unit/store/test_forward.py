from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from perfloop.model.config import IncidentsConfig
from perfloop.store.forward import Forwarder

Got = list[tuple[bytes, str]]


@pytest.fixture
def receiver() -> Iterator[tuple[str, Got, list[int]]]:
    got: Got = []
    answers = [200]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if answers[0] == 200:
                got.append((body, self.headers.get("X-Perfloop-Signature", "")))
            self.send_response(answers[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/hook", got, answers
    server.shutdown()
    server.server_close()


def test_events_wait_until_they_are_taken_and_go_out_once_in_order(tmp_path: Path, receiver: tuple[str, Got, list[int]]) -> None:
    url, got, answers = receiver
    forwarder = Forwarder(tmp_path)
    forwarder.enqueue("undo-failed", "first password=geheim", dedup_key="k", details={"dsn": "postgresql://u:geheim@h/d"})
    forwarder.enqueue("undo-failed", "second")
    assert forwarder.flush(IncidentsConfig(), str)[0] == 0
    assert forwarder.flush(IncidentsConfig(webhook="http://127.0.0.1:1/"), str)[0] == 0
    answers[0] = 503
    assert forwarder.flush(IncidentsConfig(webhook=url), str) == (0, "the receiver answered 503")
    assert len(Forwarder(tmp_path).waiting()) == 2
    answers[0] = 200
    incidents = IncidentsConfig(webhook=url, webhook_secret="env:HOOK")
    assert forwarder.flush(incidents, lambda reference: {"env:HOOK": "s3cret"}[reference]) == (2, "")
    assert forwarder.flush(incidents, str) == (0, "")
    assert [json.loads(body)["summary"] for body, _ in got] == ["first password=***", "second"]
    assert all(signature == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest() for body, signature in got)
    assert b"geheim" not in got[0][0]
