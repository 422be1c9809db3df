"""OTLP traces, read: the protobuf and the JSON form of ExportTraceServiceRequest, without a protobuf library.

The schema is small and frozen (opentelemetry/proto/trace/v1, field numbers below). Anything that does not parse raises ``ValueError``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

DEPTH_MAX = 4
SERVER, CLIENT = 2, 3
_KINDS = {"SPAN_KIND_UNSPECIFIED": 0, "SPAN_KIND_INTERNAL": 1, "SPAN_KIND_SERVER": 2, "SPAN_KIND_CLIENT": 3, "SPAN_KIND_PRODUCER": 4, "SPAN_KIND_CONSUMER": 5}
Value = str | int | float | bool


@dataclass(frozen=True)
class Span:
    """One span; ids are hexadecimal, times nanoseconds since the epoch, attributes those with a plain value."""

    trace: str
    id: str
    parent: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    service: str = ""
    attributes: Mapping[str, Value] = field(default_factory=dict)


def spans_from_protobuf(body: bytes) -> list[Span]:
    """All spans of a request body. ``ValueError`` for garbage."""
    try:
        return [
            _span(span, _service(_attributes(resource, 1) for resource in _all(resource_spans, 1)))
            for resource_spans in _all(body, 1)
            for scope_spans in _all(resource_spans, 2)
            for span in _all(scope_spans, 2)
        ]
    except (AttributeError, IndexError, OverflowError, TypeError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"no OTLP protobuf: {error}") from None


def spans_from_json(body: bytes) -> list[Span]:
    """All spans of a request body; ids are hexadecimal there, numbers may be texts. ``ValueError`` for garbage."""
    try:
        data = json.loads(body)
        found = []
        for resource_spans in data.get("resourceSpans", ()):
            service = _service([_json_attributes(resource_spans.get("resource", {}).get("attributes", ()))])
            for scope_spans in resource_spans.get("scopeSpans", ()):
                found += [_json_span(span, service) for span in scope_spans.get("spans", ())]
    except (AttributeError, KeyError, OverflowError, TypeError, RecursionError) as error:
        raise ValueError(f"no OTLP JSON: {error!r}") from None
    return found


def _service(attributes: Any) -> str:
    return next((str(found["service.name"]) for found in attributes if "service.name" in found), "")


def _json_span(span: Mapping[str, Any], service: str) -> Span:
    kind = span.get("kind", 0)
    return Span(
        trace=bytes.fromhex(span["traceId"]).hex(),
        id=bytes.fromhex(span["spanId"]).hex(),
        parent=bytes.fromhex(span.get("parentSpanId") or "").hex(),
        name=str(span.get("name", "")),
        kind=_KINDS.get(kind, 0) if isinstance(kind, str) else int(kind),
        start_ns=int(span["startTimeUnixNano"]),
        end_ns=int(span["endTimeUnixNano"]),
        service=service,
        attributes=_json_attributes(span.get("attributes", ())),
    )


def _json_attributes(pairs: Any) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for pair in pairs:
        for name, value in pair.get("value", {}).items():
            if name == "intValue":
                found[str(pair["key"])] = int(value)
            elif name in ("stringValue", "boolValue", "doubleValue"):
                found[str(pair["key"])] = value
    return found


def _span(data: bytes, service: str) -> Span:
    one: dict[int, Any] = {}
    attributes: dict[str, Value] = {}
    for number, value in _fields(data):
        if number == 9:
            attributes.update(_pair(value))
        else:
            one[number] = value
    trace, identity = one.get(1, b""), one.get(2, b"")
    if len(trace) != 16 or len(identity) != 8:
        raise ValueError("a span without its ids")
    return Span(
        trace=trace.hex(),
        id=identity.hex(),
        parent=one.get(4, b"").hex(),
        name=one.get(5, b"").decode(),
        kind=int(one.get(6, 0)),
        start_ns=int(one.get(7, 0)),
        end_ns=int(one.get(8, 0)),
        service=service,
        attributes=attributes,
    )


def _attributes(data: bytes, number: int) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for pair in _all(data, number):
        found.update(_pair(pair))
    return found


def _pair(data: bytes) -> dict[str, Value]:
    """A KeyValue with a plain value; nothing for arrays, lists and bytes."""
    key, plain = "", {}
    for number, value in _fields(data):
        if number == 1:
            key = value.decode()
        elif number == 2:
            plain = dict(_fields(value))
    if 1 in plain:
        return {key: plain[1].decode()}
    if 2 in plain:
        return {key: bool(plain[2])}
    if 3 in plain:
        return {key: plain[3] - (1 << 64) if plain[3] >= 1 << 63 else plain[3]}
    return {key: struct.unpack("<d", struct.pack("<Q", plain[4]))[0]} if 4 in plain else {}


def _all(data: bytes, wanted: int) -> Iterator[bytes]:
    for number, value in _fields(data):
        if number == wanted:
            if not isinstance(value, bytes):
                raise ValueError(f"field {number} is no message")
            yield value


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Field numbers and values: integers for varints and fixed numbers, bytes for the rest."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("a field without a number")
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            yield number, struct.unpack_from("<Q" if kind == 1 else "<I", data, at)[0]
            at += size
        elif kind == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("a field longer than its message")
            yield number, data[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
