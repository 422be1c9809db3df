"""Events for incident management: written to disk first, delivered to each receiver when it takes them, never lost in between.

One event is one file of the spool; it names the receivers that have taken it, and goes when all have. A change and its undo share one key, so that a
receiver sees one incident that begins and ends. Formats: ``store/receivers.py``.
"""

from __future__ import annotations

import hashlib
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
from perfloop.store import locks, receivers
from perfloop.store.paths import private_dir, state_dir

_EVENT_MAX_BYTES = 256 * 1024
_SUMMARY_MAX, _DETAIL_MAX = 2_000, 20_000
_DELIVER_MAX = 100  # in one call: what waits longer is delivered by the next command
_TIMEOUT_S = 5.0
#: between the tries of one call
_PAUSES_S = (0.5, 2.0)
#: answers that the same event will get again: it waits for a person, and holds nobody up
_REFUSED = frozenset(range(400, 500)) - {408, 425, 429}


class Forwarder:
    """The spool of events that wait, in the state directory, and their delivery."""

    def __init__(self, root: Path | None = None) -> None:
        self.folder = private_dir(state_dir(root) / "events")
        self._open = private_dir(self.folder / "open")

    def enqueue(
        self, kind: str, summary: str, *, severity: str = "critical", dedup_key: str = "", details: dict[str, Any] | None = None, action: str = "trigger"
    ) -> str:
        """Puts one event on disk and returns its id; ``dedup_key`` lets the receiver join the events of one incident."""
        event_id = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        kept = {name: value if not isinstance(value, str) else value[:_DETAIL_MAX] for name, value in (details or {}).items()}
        event = {
            "schema_version": 1,
            "id": event_id,
            "source": "perfloop",
            "timestamp": utc_now(),
            "kind": kind,
            "action": action,
            "severity": severity,
            "summary": redact(summary)[:_SUMMARY_MAX],
            "dedup_key": dedup_key or event_id,
            "details": json.loads(redact(json.dumps(kept, default=str))),
            "delivered": [],
        }
        marker = self._marker(event["dedup_key"])
        if action == "trigger" and not marker.exists():
            write_atomic(
                marker, json.dumps({"dedup_key": event["dedup_key"], "began_at": event["timestamp"], "target": kept.get("target", "")}).encode(), mode=0o600
            )
        if marker.exists():
            event["began_at"] = json.loads(read_limited(marker, _EVENT_MAX_BYTES)).get("began_at", event["timestamp"])
        write_atomic(self.folder / f"{event_id}.json", json.dumps(event, ensure_ascii=False).encode(), mode=0o600)
        return event_id

    def resolve(self, dedup_key: str, summary: str, details: dict[str, Any] | None = None) -> str:
        """Ends an incident that was begun here; returns the event's id, empty where none is open under that key."""
        if not self._marker(dedup_key).exists():
            return ""
        began = json.loads(read_limited(self._marker(dedup_key), _EVENT_MAX_BYTES))
        known = {"target": began["target"]} if began.get("target") else {}
        event_id = self.enqueue("resolved", summary, severity="info", dedup_key=dedup_key, details=known | (details or {}), action="resolve")
        self._marker(dedup_key).unlink(missing_ok=True)
        return event_id

    def waiting(self) -> tuple[dict[str, Any], ...]:
        """The events not delivered to everybody yet, oldest first."""
        return tuple(json.loads(read_limited(path, _EVENT_MAX_BYTES)) for path in self._paths())

    def flush(self, incidents: IncidentsConfig, resolve: Callable[[str], str], *, tries: int = 1) -> tuple[int, str]:
        """Delivers what waits, in order; returns how many events are done, and why others wait (empty: nothing does).

        A receiver that is down gets nothing more in this call; one that refuses an event for good keeps only that one waiting.
        """
        if not receivers.requests({}, incidents, resolve):
            return 0, "no receiver is configured in [incidents]" if self._paths() else ""
        done = 0
        reasons: dict[str, str] = {}
        with locks.held(self.folder / "flush.lock", timeout_s=30.0, what="the event spool"):
            down: set[str] = set()
            for path in self._paths()[:_DELIVER_MAX]:
                event = json.loads(read_limited(path, _EVENT_MAX_BYTES))
                missing = {name: make for name, make in receivers.requests(event, incidents, resolve).items() if name not in event["delivered"]}
                for name, make in missing.items():
                    if name in down:
                        continue
                    reason, for_good = _post(make, tries)
                    if not reason:
                        event["delivered"].append(name)
                        write_atomic(path, json.dumps(event, ensure_ascii=False).encode(), mode=0o600)
                        continue
                    reasons[name] = f"{name}: {reason}"
                    if not for_good:
                        down.add(name)  # in order: what comes after waits too
                if all(name in event["delivered"] for name in missing):
                    path.unlink()
                    done += 1
        return done, "; ".join(reasons.values())

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.json"))

    def _marker(self, dedup_key: str) -> Path:
        return self._open / f"{hashlib.sha256(dedup_key.encode()).hexdigest()[:24]}.json"


def _post(make: Callable[[], receivers.Post], tries: int) -> tuple[str, bool]:
    """Why it was not taken (empty: it was), and whether trying again is useless."""
    reason = ""
    for number in range(tries):
        if number:
            time.sleep(_PAUSES_S[min(number - 1, len(_PAUSES_S) - 1)])
        try:
            url, headers, body = make()
            status = fetch(url, method="POST", headers=headers, body=body, timeout_s=_TIMEOUT_S, redirects_max=0).status
        except PerfloopError as error:
            reason = redact(f"{error.what}: {error.why}")
            continue
        if 200 <= status < 300:
            return "", False
        reason = f"the receiver answered {status}"
        if status in _REFUSED:
            return reason, True
    return reason, False
