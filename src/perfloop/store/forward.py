"""Events for incident management: written to disk first, delivered when the receiver takes them, never lost in between."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perfloop.errors import PerfloopError
from perfloop.host.files import read_limited, write_atomic
from perfloop.host.http import fetch
from perfloop.host.secrets import redact
from perfloop.model.base import utc_now
from perfloop.model.config import IncidentsConfig
from perfloop.store import locks
from perfloop.store.paths import private_dir, state_dir

_EVENT_MAX_BYTES = 256 * 1024
_DELIVER_MAX = 100  # in one call: what waits longer is delivered by the next command


class Forwarder:
    """The spool of events that wait, in the state directory, and their delivery to a webhook."""

    def __init__(self, root: Path | None = None) -> None:
        self.folder = private_dir(state_dir(root) / "events")

    def enqueue(self, kind: str, summary: str, *, severity: str = "critical", dedup_key: str = "", details: dict[str, Any] | None = None) -> str:
        """Puts one event on disk and returns its id; ``dedup_key`` lets the receiver join events of one incident."""
        event_id = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        event = {
            "schema_version": 1,
            "id": event_id,
            "source": "perfloop",
            "timestamp": utc_now(),
            "kind": kind,
            "severity": severity,
            "summary": redact(summary),
            "dedup_key": dedup_key or event_id,
            "details": json.loads(redact(json.dumps(details or {}, default=str))),
        }
        write_atomic(self.folder / f"{event_id}.json", json.dumps(event, ensure_ascii=False).encode()[:_EVENT_MAX_BYTES], mode=0o600)
        return event_id

    def waiting(self) -> tuple[dict[str, Any], ...]:
        """The events not delivered yet, oldest first."""
        return tuple(json.loads(read_limited(path, _EVENT_MAX_BYTES)) for path in sorted(self.folder.glob("*.json")))

    def flush(self, incidents: IncidentsConfig, resolve: Callable[[str], str]) -> tuple[int, str]:
        """Delivers what waits, in order, and stops at the first that is not taken; returns how many went out, and why the rest waits (empty: nothing does).

        A POST of the event as JSON; with ``webhook_secret``, ``X-Perfloop-Signature: sha256=…`` is the HMAC of the body.
        """
        if not incidents.webhook:
            return 0, "no incidents.webhook is configured" if any(self.folder.glob("*.json")) else ""
        sent = 0
        with locks.held(self.folder / "flush.lock", timeout_s=30.0, what="the event spool"):
            for path in sorted(self.folder.glob("*.json"))[:_DELIVER_MAX]:
                reason = _post(incidents, read_limited(path, _EVENT_MAX_BYTES), resolve)
                if reason:
                    return sent, reason
                path.unlink()
                sent += 1
        return sent, ""


def _post(incidents: IncidentsConfig, body: bytes, resolve: Callable[[str], str]) -> str:
    try:
        headers = [("Content-Type", "application/json")]
        if incidents.webhook_secret:
            signature = hmac.new(resolve(incidents.webhook_secret).encode(), body, hashlib.sha256).hexdigest()
            headers.append(("X-Perfloop-Signature", f"sha256={signature}"))
        response = fetch(incidents.webhook, method="POST", headers=tuple(headers), body=body, timeout_s=5.0, redirects_max=0)
    except PerfloopError as error:
        return redact(f"{error.what}: {error.why}")
    return "" if 200 <= response.status < 300 else f"the receiver answered {response.status}"
