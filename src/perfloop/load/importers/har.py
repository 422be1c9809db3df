"""A journey from a HAR file (HTTP Archive 1.2), as browsers and proxies write it: the requests of one session in order, with the pauses between them."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from perfloop.errors import UsageError
from perfloop.load.engines.labels import template
from perfloop.model.journey import Journey, Step

STEPS_MAX = 500
BODY_MAX = 1_000_000
THINK_MAX_S = 30.0
#: what the engine sets itself, what belongs to one connection or one moment, and credentials, which must not be stored
_LEFT_OUT = frozenset(
    [
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "keep-alive",
        "upgrade",
        "te",
        "trailer",
        "proxy-connection",
        "accept-encoding",
        "if-none-match",
        "if-modified-since",
        "if-match",
        "if-unmodified-since",
        "if-range",
        "cookie",
        "authorization",
        "proxy-authorization",
        "x-csrf-token",
        "x-xsrf-token",
    ]
)
_CREDENTIALS = frozenset(("cookie", "authorization", "proxy-authorization"))
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"))


def journey_from_har(document: Any, base_url: str, writes: bool = False) -> tuple[Journey, str]:
    """The journey, and what it is made from in words. Requests to the origin of ``base_url``, else to the origin that most of them went to (a recording of another host).

    Left out, and counted in the words: other origins, failed requests, no HTTP, and with ``writes`` False all that may change data. Credentials are never taken
    over: they belong into target.headers, as references. ``UsageError`` where nothing is left.
    """
    entries = document.get("log", {}).get("entries") if isinstance(document, dict) and isinstance(document.get("log"), dict) else None
    if not isinstance(entries, list):
        raise UsageError("this is not a HAR file", why="it has no log.entries", fix="save it from the browser's network panel: Save all as HAR")
    requests = [entry for entry in entries if isinstance(entry, dict) and _origin(entry)]
    origin = _chosen(requests, base_url)
    left: Counter[str] = Counter()
    left["without http"] = len(entries) - len(requests)
    steps: list[Step] = []
    ended_s: float | None = None
    for entry in sorted(requests, key=_started_s):
        reason = _unfit(entry, origin, writes)
        if reason or len(steps) >= STEPS_MAX:
            left[reason or f"beyond {STEPS_MAX} requests"] += 1
            continue
        started_s = _started_s(entry)
        if steps and ended_s is not None and started_s > ended_s:
            pause = min(THINK_MAX_S, started_s - ended_s)
            steps[-1] = steps[-1].with_(think_s=(pause, pause))
        steps.append(_step(entry))
        ended_s = max(ended_s or 0.0, started_s + max(0.0, _number(entry.get("time"))) / 1000)
        left["credentials in headers"] += sum(str(h.get("name", "")).lower() in _CREDENTIALS for h in _headers(entry))
    if not steps:
        raise UsageError("the HAR file has no request to send", why=_account(0, left), fix="record the pages of your service itself, without errors")
    changes = any(step.method not in ("GET", "HEAD") for step in steps)
    return Journey(name="recorded session", steps=tuple(steps), repeatable=not changes), f"HAR: {_account(len(steps), left)}, of {origin}"


def _step(entry: dict[str, Any]) -> Step:
    request = entry["request"]
    parts = urlsplit(str(request["url"]))
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    method = str(request["method"]).upper()
    headers = {}
    for header in _headers(entry):
        name, value = str(header.get("name", "")), str(header.get("value", ""))
        if (
            name
            and not name.startswith(":")
            and name.lower() not in _LEFT_OUT
            and not name.lower().startswith("sec-")
            and "\n" not in value
            and "\r" not in value
        ):
            headers[name] = value
    # a literal ${ in a recording is no variable of ours
    return Step(name=f"{method} {template(path)}", method=method, paths=(path.replace("${", "%24%7B"),), headers=tuple(headers.items()), body=_body(request))


def _body(request: dict[str, Any]) -> str:
    posted = request.get("postData")
    if not isinstance(posted, dict):
        return ""
    if posted.get("text"):
        return str(posted["text"])
    params = [p for p in posted.get("params") or () if isinstance(p, dict) and "name" in p]
    return urlencode([(str(p["name"]), str(p.get("value", ""))) for p in params])


def _unfit(entry: dict[str, Any], origin: str, writes: bool) -> str:
    request, response = entry["request"], entry.get("response")
    method = str(request.get("method", "")).upper()
    status = response.get("status") if isinstance(response, dict) else None
    if _origin(entry) != origin:
        return "to other hosts"
    if method not in _METHODS:
        return "of other methods"
    if not writes and method not in ("GET", "HEAD"):
        return "that may change data (allowed in a sandbox only)"
    if not isinstance(status, int) or not 100 <= status < 400:
        return "that failed"
    if len(_body(request)) > BODY_MAX:
        return "with a body of over 1 MB"
    return ""


def _chosen(requests: list[dict[str, Any]], base_url: str) -> str:
    parts = urlsplit(base_url)
    wanted = f"{parts.scheme}://{parts.netloc}".lower()
    counts = Counter(_origin(entry) for entry in requests)
    return wanted if wanted in counts or not counts else counts.most_common(1)[0][0]


def _origin(entry: dict[str, Any]) -> str:
    request = entry.get("request")
    try:
        parts = urlsplit(str(request["url"])) if isinstance(request, dict) else None
    except (KeyError, ValueError):
        return ""
    return f"{parts.scheme}://{parts.netloc}".lower() if parts and parts.scheme in ("http", "https") and parts.netloc else ""


def _headers(entry: dict[str, Any]) -> list[dict[str, Any]]:
    headers = entry["request"].get("headers")
    return [header for header in headers if isinstance(header, dict)] if isinstance(headers, list) else []


def _started_s(entry: dict[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(entry.get("startedDateTime"))).timestamp()
    except ValueError:
        return 0.0


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _account(used: int, left: Counter[str]) -> str:
    return ", ".join([f"{used} requests", *(f"left out {count} {reason}" for reason, count in left.items() if count)])
