from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from perfloop.model.config import IncidentsConfig
from perfloop.store.forward import Forwarder

KEY = "0123456789abcdef0123456789abcdef"


@dataclass
class Recorder:
    """A loopback receiver of all three kinds; ``answers`` are what it says next, by path."""

    url: str = ""
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)

    def bodies(self, path: str) -> list[Any]:
        return [json.loads(body) for where, _, body in self.got if where == path]

    @property
    def incidents(self) -> IncidentsConfig:
        return IncidentsConfig(
            webhook=f"{self.url}/hook", webhook_secret="env:HOOK", alertmanager=f"{self.url}/", pagerduty_key="env:PD", pagerduty_url=f"{self.url}/v2/enqueue"
        )


def secret(reference: str) -> str:
    return {"env:HOOK": "s3cret", "env:PD": KEY}[reference]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    found = Recorder()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = found.answers.get(self.path, 202)
            if status < 300:
                found.got.append((self.path, dict(self.headers), body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield found
    server.shutdown()
    server.server_close()


def test_events_wait_until_they_are_taken_and_go_out_once_in_order(tmp_path: Path, recorder: Recorder) -> None:
    forwarder = Forwarder(tmp_path)
    forwarder.enqueue("undo-failed", "first password=geheim", dedup_key="k", details={"dsn": "postgresql://u:geheim@h/d"})
    forwarder.enqueue("undo-failed", "second")
    assert forwarder.flush(IncidentsConfig(), str)[0] == 0
    assert forwarder.flush(IncidentsConfig(webhook="http://127.0.0.1:1/"), str)[0] == 0
    hook = IncidentsConfig(webhook=f"{recorder.url}/hook", webhook_secret="env:HOOK")
    recorder.answers["/hook"] = 503
    assert forwarder.flush(hook, secret) == (0, "webhook: the receiver answered 503")
    assert len(Forwarder(tmp_path).waiting()) == 2
    recorder.answers.clear()
    assert forwarder.flush(hook, secret) == (2, "")
    assert forwarder.flush(hook, secret) == (0, "")
    assert [body["summary"] for body in recorder.bodies("/hook")] == ["first password=***", "second"]
    for _, headers, body in recorder.got:
        assert headers["X-Perfloop-Signature"] == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
        assert b"geheim" not in body


def test_a_change_and_its_undo_are_one_incident_everywhere(tmp_path: Path, recorder: Recorder) -> None:
    forwarder = Forwarder(tmp_path)
    details = {"target": "http://shop", "why": "disk", "commands": ["psql -c 'DROP INDEX i'"]}
    forwarder.enqueue("undo-failed", "could not undo", dedup_key="perfloop-chg-1", details=details)
    assert forwarder.flush(recorder.incidents, secret) == (1, "")
    assert forwarder.resolve("perfloop-chg-2", "nothing was open") == ""
    assert forwarder.resolve("perfloop-chg-1", "undone")
    assert forwarder.resolve("perfloop-chg-1", "once only") == ""
    assert forwarder.flush(recorder.incidents, secret) == (1, "")

    fired, resolved = recorder.bodies("/api/v2/alerts")
    assert fired[0]["labels"] == {
        "alertname": "PerfloopChange",
        "dedup_key": "perfloop-chg-1",
        "severity": "critical",
        "source": "perfloop",
        "instance": "http://shop",
    }
    assert fired[0]["endsAt"] > fired[0]["startsAt"]
    assert fired[0]["annotations"]["summary"] == "could not undo"
    assert "run: psql -c 'DROP INDEX i'" in fired[0]["annotations"]["description"]
    assert resolved[0]["labels"] == fired[0]["labels"]
    assert resolved[0]["endsAt"] >= resolved[0]["startsAt"] == fired[0]["startsAt"]

    trigger, ended = recorder.bodies("/v2/enqueue")
    assert (trigger["routing_key"], trigger["event_action"], trigger["dedup_key"]) == (KEY, "trigger", "perfloop-chg-1")
    assert trigger["payload"]["severity"] == "critical"
    assert set(trigger["payload"]) >= {"summary", "source", "severity"}
    assert ended == {"routing_key": KEY, "event_action": "resolve", "dedup_key": "perfloop-chg-1"}
    assert [body["action"] for body in recorder.bodies("/hook")] == ["trigger", "resolve"]


def test_one_receiver_that_is_down_delays_nobody_else_and_gets_it_later_once(tmp_path: Path, recorder: Recorder) -> None:
    forwarder = Forwarder(tmp_path)
    for name in ("one", "two"):
        forwarder.enqueue("regression", name, dedup_key=name)
    recorder.answers["/v2/enqueue"] = 429
    assert forwarder.flush(recorder.incidents, secret) == (0, "pagerduty: the receiver answered 429")
    assert len(recorder.bodies("/hook")) == len(recorder.bodies("/api/v2/alerts")) == 2
    recorder.answers.clear()
    assert Forwarder(tmp_path).flush(recorder.incidents, secret) == (2, "")
    assert [body["dedup_key"] for body in recorder.bodies("/v2/enqueue")] == ["one", "two"]
    assert len(recorder.bodies("/hook")) == 2


def test_an_event_that_is_refused_for_good_stays_and_holds_nobody_up(tmp_path: Path, recorder: Recorder) -> None:
    forwarder = Forwarder(tmp_path)
    forwarder.enqueue("regression", "one", dedup_key="one")
    recorder.answers["/hook"] = 400
    hook = IncidentsConfig(webhook=f"{recorder.url}/hook")
    assert forwarder.flush(hook, secret)[0] == 0
    forwarder.enqueue("regression", "two", dedup_key="two")
    recorder.answers.clear()
    assert forwarder.flush(hook, secret) == (2, "")
    broken = IncidentsConfig(pagerduty_key="env:HOOK", pagerduty_url=f"{recorder.url}/v2/enqueue")
    forwarder.enqueue("regression", "three")
    done, why = forwarder.flush(broken, secret)
    assert done == 0
    assert "no routing key" in why
    assert "s3cret" not in why
    assert len(forwarder.waiting()) == 1
