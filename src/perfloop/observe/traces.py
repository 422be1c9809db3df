"""Spans into counted calls: which request of a service called what, by old and new semantic conventions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from perfloop.model.calls import CallCount, CallKind, CallPlace, CallsObservation, RequestCalls
from perfloop.sql.fingerprint import normalize
from perfloop.wire.otlp import CLIENT, SERVER, Span, Value

CALLS_MAX, NAMES_MAX, DEPTH_MAX, TEXT_MAX = 200, 100, 64, 2_000
CACHES = frozenset({"redis", "memcached", "valkey"})
_ID = re.compile(r"(?<=[/:])(?:\d+|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|[0-9a-fA-F]{16,})(?=[/:]|$)")
_DIALECTS = {"mysql": "mysql", "mariadb": "mysql"}


def calls_from_spans(spans: Sequence[Span], start_ns: int, end_ns: int) -> tuple[CallsObservation, ...]:
    """What the requests that began in the window called, by service. A request is a span without one above it; a call inside of a call of its kind is not counted again."""
    by_id = {(span.trace, span.id): span for span in spans}
    requests: dict[tuple[str, str], list[Span]] = {}
    for span in spans:
        if _is_request(span) and start_ns <= span.start_ns < end_ns:
            requests.setdefault((span.service, _request_name(span)), []).append(span)
    calls: dict[tuple[str, str], list[Span]] = {}
    lost = 0
    for span in spans:
        kind = call_kind(span.attributes)
        if kind is None or span.kind == SERVER or not start_ns <= span.start_ns < end_ns:
            continue
        parent = by_id.get((span.trace, span.parent))
        if parent is not None and parent.kind != SERVER and call_kind(parent.attributes) == kind:
            continue
        request = _request_of(span, by_id)
        if request is None:
            lost += 1
        elif request.service == span.service:
            calls.setdefault((request.service, _request_name(request)), []).append(span)
    services = dict.fromkeys(service for service, _ in requests)
    window_s = (end_ns - start_ns) / 1e9
    return tuple(
        CallsObservation(
            window_s=window_s,
            source="traces",
            service=service,
            requests=tuple(_entry(name, found, calls.get((service, name), []), by_id) for (owner, name), found in requests.items() if owner == service)[
                :NAMES_MAX
            ],
            failures=lost,
        )
        for service in services
    )


def call_kind(attributes: Mapping[str, Value]) -> CallKind | None:
    """database, cache or http; None for a span that is no call to another."""
    system = str(attributes.get("db.system.name", attributes.get("db.system", "")))
    if system:
        return "cache" if system in CACHES else "database"
    method = attributes.get("http.request.method", attributes.get("http.method"))
    return "http" if method and ("url.full" in attributes or "http.url" in attributes) else None


def call_text(span: Span, kind: CallKind) -> str:
    """The call without literals, keys and ids."""
    attributes = span.attributes
    if kind == "http":
        url = urlsplit(str(attributes.get("url.full", attributes.get("http.url", ""))))
        method = attributes.get("http.request.method", attributes.get("http.method"))
        return f"{method} {(url.hostname or '')}:{url.port or (443 if url.scheme == 'https' else 80)}{_ID.sub('{id}', url.path)}"[:TEXT_MAX]
    text = str(attributes.get("db.query.text", attributes.get("db.statement", "")))
    if not text:
        return f"{attributes.get('db.operation.name', attributes.get('db.operation', span.name))} {attributes.get('db.collection.name', attributes.get('db.sql.table', ''))}".strip()
    if kind == "cache":
        command, _, rest = text.partition(" ")
        return f"{command} {_ID.sub('{id}', rest.partition(' ')[0])}".strip()[:TEXT_MAX]
    return _cleaned(text[: 4 * TEXT_MAX], _DIALECTS.get(str(attributes.get("db.system.name", attributes.get("db.system", ""))), "postgres"))


@lru_cache(maxsize=4_096)
def _cleaned(text: str, dialect: str) -> str:
    return normalize(text, dialect)[:TEXT_MAX]


def _is_request(span: Span) -> bool:
    """The spans at the top: perfloop sends no trace context, so that these are its own requests, and not what the service asked of others."""
    return not span.parent and (span.kind == SERVER or (span.kind != CLIENT and call_kind(span.attributes) is None))


def _request_of(span: Span, by_id: Mapping[tuple[str, str], Span]) -> Span | None:
    """The nearest request above a span; None where its spans did not come."""
    above = by_id.get((span.trace, span.parent))
    for _ in range(DEPTH_MAX):
        if above is None or _is_request(above):
            return above
        above = by_id.get((span.trace, above.parent))
    return None


def _request_name(span: Span) -> str:
    attributes = span.attributes
    method = attributes.get("http.request.method", attributes.get("http.method"))
    if not method:
        return span.name[:TEXT_MAX] or "(unnamed)"
    path = str(attributes.get("http.route", attributes.get("url.path", attributes.get("http.target", "")))).partition("?")[0]
    return f"{method} {_ID.sub('{id}', path)}"[:TEXT_MAX]


def _entry(name: str, requests: Sequence[Span], calls: Sequence[Span], by_id: Mapping[tuple[str, str], Span]) -> RequestCalls:
    groups: dict[tuple[CallKind, str], list[Span]] = {}
    for call in calls:
        kind = call_kind(call.attributes)
        if kind is not None:
            groups.setdefault((kind, call_text(call, kind)), []).append(call)
    counts = []
    for (kind, text), same in groups.items():
        per: dict[str, int] = {}
        places: dict[tuple[tuple[str, int, str], ...], int] = {}
        for call in same:
            owner = _request_of(call, by_id)
            per[owner.id if owner else ""] = per.get(owner.id if owner else "", 0) + 1
            line = _line(call.attributes)
            if line:
                places[(line,)] = places.get((line,), 0) + 1
        ways = sorted(places.items(), key=lambda item: -item[1])[:5]
        counts.append(
            CallCount(
                kind=kind,
                text=text,
                calls=len(same),
                requests=len(per),
                most=max(per.values()),
                seconds=sum(max(0, call.end_ns - call.start_ns) for call in same) / 1e9,
                places=tuple(CallPlace(lines=lines, seen=seen) for lines, seen in ways),
            )
        )
    spent = sum(max(0, one.end_ns - one.start_ns) for one in requests) / 1e9
    return RequestCalls(name=name, requests=len(requests), seconds=spent, calls=tuple(sorted(counts, key=lambda count: -count.calls)[:CALLS_MAX]))


def _line(attributes: Mapping[str, Value]) -> tuple[str, int, str] | None:
    """Where the caller's code is, for the few instrumentations that tell it."""
    file = str(attributes.get("code.file.path", attributes.get("code.filepath", "")))
    line = attributes.get("code.line.number", attributes.get("code.lineno", 0))
    function = str(attributes.get("code.function.name", attributes.get("code.function", "")))
    return (file, int(line), function.rpartition(".")[2]) if file and isinstance(line, int | float) else None
