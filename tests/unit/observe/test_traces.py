"""OTLP in: from the real exporter of the OpenTelemetry SDK, and by hand in JSON; what requests called comes out."""

from __future__ import annotations

import gzip
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind

from perfloop.errors import CannotMeasure
from perfloop.model.calls import CallCount
from perfloop.observe.traces import calls_from_spans
from perfloop.wire import otlp_server
from perfloop.wire.otlp import spans_from_json, spans_from_protobuf
from perfloop.wire.otlp_server import Receiver

send = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
OLD = {
    "request": {"http.method": "GET", "http.target": "/books/7?x=1"},
    "query": lambda i: {"db.system": "postgresql", "db.statement": f"SELECT name FROM author WHERE id = {i}"},
    "cache": lambda i: {"db.system": "redis", "db.statement": f"GET user:{i}"},
    "http": lambda i: {"http.method": "GET", "http.url": f"http://prices:8080/price/{i}?token=geheim"},
}
NEW = {
    "request": {"http.request.method": "GET", "url.path": "/books/7"},
    "query": lambda i: {
        "db.system.name": "postgresql",
        "db.query.text": f"SELECT name FROM author WHERE id = {i}",
        "code.file.path": "/srv/a.py",
        "code.line.number": 7,
    },
    "cache": lambda i: {"db.system.name": "redis", "db.query.text": f"GET user:{i}"},
    "http": lambda i: {"http.request.method": "GET", "url.full": f"http://prices:8080/price/{i}?token=geheim"},
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver(0)
    yield made
    made.close()


def export(receiver: Receiver, words: dict, compression: Compression) -> None:
    """Two requests, each with 6 queries, 3 cache calls and 2 calls to another service, by the SDK's own exporter."""
    provider = TracerProvider(resource=Resource({"service.name": "shop"}))
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{receiver.port}/v1/traces", compression=compression)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    for _ in range(2):
        with tracer.start_as_current_span("GET", kind=SpanKind.SERVER, attributes=words["request"]), tracer.start_as_current_span("handler"):
            for kind, count in (("query", 6), ("cache", 3), ("http", 2)):
                for i in range(count):
                    with tracer.start_as_current_span(kind, kind=SpanKind.CLIENT, attributes=words[kind](i)):
                        if kind == "query":  # the driver's instrumentation beneath the mapper's is no second query
                            with tracer.start_as_current_span("driver", kind=SpanKind.CLIENT, attributes=words[kind](i)):
                                pass
    provider.shutdown()


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
@pytest.mark.parametrize("words", [OLD, NEW], ids=["old", "new"])
def test_spans_of_the_real_exporter_become_calls_per_request(receiver, words, compression):
    began = time.time_ns()
    export(receiver, words, compression)
    (seen,) = calls_from_spans(receiver.spans(), began, time.time_ns())
    assert (seen.source, seen.service, [entry.name for entry in seen.requests]) == ("traces", "shop", ["GET /books/{id}"])
    entry = seen.requests[0]
    counts: dict[str, CallCount] = {call.kind: call for call in entry.calls}
    assert entry.requests == 2
    assert [(counts[kind].calls, counts[kind].requests, counts[kind].most) for kind in ("database", "cache", "http")] == [(12, 2, 6), (6, 2, 3), (4, 2, 2)]
    assert "author" in counts["database"].text
    assert counts["cache"].text == "GET user:{id}"
    assert counts["http"].text == "GET prices:8080/price/{id}"
    assert counts["database"].seconds > 0
    assert "geheim" not in seen.model_dump_json()
    if words is NEW:
        assert counts["database"].places[0].lines == (("/srv/a.py", 7, ""),)


def test_spans_outside_of_the_window_belong_to_another(receiver):
    export(receiver, NEW, Compression.NoCompression)
    assert calls_from_spans(receiver.spans(), time.time_ns(), time.time_ns() + 10**9) == ()


def as_json(**span) -> bytes:
    one = {"traceId": "0a" * 16, "spanId": "0b" * 8, "name": "GET", "kind": 2, "startTimeUnixNano": "5", "endTimeUnixNano": "9", **span}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [one]}]}]}).encode()


def post(receiver: Receiver, body: bytes, form: str = "application/json", path: str = "/v1/traces", **headers: str) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{receiver.port}{path}", data=body, headers={"Content-Type": form, **headers}, method="POST")
    try:
        with send(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_json_is_read_with_numbers_as_text_and_kinds_by_name(receiver):
    assert (
        post(receiver, as_json(kind="SPAN_KIND_SERVER", attributes=[{"key": "n", "value": {"intValue": "12"}}, {"key": "list", "value": {"arrayValue": {}}}]))
        == 200
    )
    assert post(receiver, gzip.compress(as_json()), **{"Content-Encoding": "gzip"}) == 200
    first, second = receiver.spans()
    assert (first.kind, first.service, first.start_ns, first.attributes, first.trace) == (2, "shop", 5, {"n": 12}, "0a" * 16)
    assert second.kind == 2


@pytest.mark.parametrize(
    ("status", "body", "form", "headers"),
    [
        (400, b"{", "application/json", {}),
        (400, b"[]", "application/json", {}),
        (400, as_json(traceId="zz"), "application/json", {}),
        (400, as_json(startTimeUnixNano=None), "application/json", {}),
        (400, b"\x0a\xff\xff", "application/x-protobuf", {}),
        (400, b"\x0a\x07\x12\x05\x12\x03\x0a\x01x", "application/x-protobuf", {}),
        (400, b"no gzip", "application/x-protobuf", {"Content-Encoding": "gzip"}),
        (400, gzip.compress(b"x" * 100)[:-9], "application/x-protobuf", {"Content-Encoding": "gzip"}),
        (415, b"", "text/plain", {}),
        (415, b"", "application/json", {"Content-Encoding": "br"}),
    ],
)
def test_garbage_is_answered_and_nothing_is_kept(receiver, status, body, form, headers):
    assert post(receiver, body, form, **headers) == status
    assert receiver.spans() == []


def test_bodies_and_what_they_unpack_to_are_bounded(receiver, monkeypatch):
    monkeypatch.setattr(otlp_server, "BODY_MAX_BYTES", 10_000)
    monkeypatch.setattr(otlp_server, "UNPACKED_MAX_BYTES", 50_000)
    assert post(receiver, b" " * 10_001) == 413
    assert post(receiver, gzip.compress(b" " * 60_000), **{"Content-Encoding": "gzip"}) == 413


def test_spans_over_the_bound_are_dropped_and_counted(receiver, monkeypatch):
    monkeypatch.setattr(otlp_server, "SPANS_MAX", 2)
    for _ in range(3):
        assert post(receiver, as_json()) == 200
    assert (len(receiver.spans()), receiver.dropped) == (2, 1)


def test_metrics_and_logs_are_taken_and_dropped_and_other_paths_are_not(receiver):
    assert [post(receiver, b"{}", path=path) for path in ("/v1/metrics", "/v1/logs", "/v1/else")] == [200, 200, 404]
    assert receiver.spans() == []


def test_no_garbage_raises_anything_else():
    rng = random.Random(5)
    for _ in range(3_000):
        body = bytes(rng.choice(b"\x0a\x12\x1a\x22\x08\x10\x39\x41\x4a\x01\x02\x03\x10\xff\x00ab") for _ in range(rng.randint(0, 60)))
        for read in (spans_from_protobuf, spans_from_json):
            try:
                read(body)
            except ValueError:
                pass


def test_a_taken_port_is_told(receiver):
    with pytest.raises(CannotMeasure, match="cannot listen"):
        Receiver(receiver.port)
