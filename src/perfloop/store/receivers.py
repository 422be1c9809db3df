"""The wire formats of incident management: one event as Alertmanager v2, PagerDuty Events v2 and a signed webhook take it. Pure.

Sources: Alertmanager OpenAPI v2 (``POST /api/v2/alerts``: labels identify an alert, ``endsAt`` resolves it); PagerDuty Events API v2 (``POST /v2/enqueue``).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from perfloop.errors import UsageError
from perfloop.model.config import IncidentsConfig

#: a firing alert that nobody resolves ends by itself after this long
FIRING_D = 7
_ROUTING_KEY_LENGTH = 32
_SUMMARY_MAX, _DEDUP_MAX = 1024, 255


class Post(NamedTuple):
    """One request."""

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


def requests(event: dict[str, Any], incidents: IncidentsConfig, resolve: Callable[[str], str]) -> dict[str, Callable[[], Post]]:
    """What is to be sent, by receiver; made when it is sent, because credentials are looked up then."""
    found: dict[str, Callable[[], Post]] = {}
    if incidents.alertmanager:
        found["alertmanager"] = lambda: alertmanager(event, incidents.alertmanager)
    if incidents.pagerduty_key:
        found["pagerduty"] = lambda: pagerduty(event, incidents.pagerduty_url, resolve(incidents.pagerduty_key))
    if incidents.webhook:
        found["webhook"] = lambda: webhook(event, incidents.webhook, resolve(incidents.webhook_secret) if incidents.webhook_secret else "")
    return found


def alertmanager(event: dict[str, Any], base_url: str) -> Post:
    """The labels are the same for a change's regression, its failed undo and its end, so that they are one alert."""
    details = event["details"]
    at = datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00"))
    ends = at if event["action"] == "resolve" else at + timedelta(days=FIRING_D)
    alert = {
        "labels": {
            "alertname": "PerfloopChange",
            "dedup_key": event["dedup_key"],
            "severity": "critical",
            "source": "perfloop",
            **({"instance": str(details["target"])} if details.get("target") else {}),
        },
        "annotations": {"summary": event["summary"], "description": _text(details)},
        "startsAt": event.get("began_at") or event["timestamp"],
        "endsAt": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return Post(base_url.rstrip("/") + "/api/v2/alerts", (("Content-Type", "application/json"),), _json([alert]))


def pagerduty(event: dict[str, Any], url: str, routing_key: str) -> Post:
    """Trigger or resolve, by one deduplication key."""
    if len(routing_key) != _ROUTING_KEY_LENGTH:
        raise UsageError(
            "incidents.pagerduty_key is no routing key", why=f"it has {len(routing_key)} signs, not {_ROUTING_KEY_LENGTH}", fix="take the integration key"
        )
    message: dict[str, Any] = {"routing_key": routing_key, "event_action": event["action"], "dedup_key": event["dedup_key"][:_DEDUP_MAX]}
    if event["action"] == "trigger":
        details = event["details"]
        message |= {
            "client": "perfloop",
            "payload": {
                "summary": event["summary"][:_SUMMARY_MAX],
                "source": str(details.get("target") or "perfloop"),
                "severity": event["severity"] if event["severity"] in ("critical", "error", "warning", "info") else "error",
                "timestamp": event["timestamp"],
                "class": event["kind"],
                "custom_details": details,
            },
        }
    return Post(url, (("Content-Type", "application/json"),), _json(message))


def webhook(event: dict[str, Any], url: str, secret: str) -> Post:
    """The event itself; with a secret, ``X-Perfloop-Signature: sha256=…`` is the HMAC of the body."""
    body = _json({key: value for key, value in event.items() if key != "delivered"})
    headers = [("Content-Type", "application/json"), ("Idempotency-Key", event["id"])]
    if secret:
        headers.append(("X-Perfloop-Signature", f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"))
    return Post(url, tuple(headers), body)


def _text(details: dict[str, Any]) -> str:
    lines = [f"{name}: {value}" for name, value in details.items() if name != "commands" and value not in ("", None)]
    return "\n".join([*lines, *(f"run: {command}" for command in details.get("commands", ()))])


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=str).encode()
