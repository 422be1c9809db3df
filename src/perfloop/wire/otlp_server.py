"""The receiver of OTLP/HTTP: POST /v1/traces on 127.0.0.1, protobuf or JSON, plain or gzip, everything bounded. Metrics and logs are taken and dropped."""

from __future__ import annotations

import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from perfloop.errors import CannotMeasure
from perfloop.wire.otlp import Span, spans_from_json, spans_from_protobuf

BODY_MAX_BYTES, UNPACKED_MAX_BYTES = 8 * 2**20, 32 * 2**20
SPANS_MAX = 300_000
WAIT_S = 10.0
PATHS = ("/v1/traces", "/v1/metrics", "/v1/logs")
_FORMS = {"application/x-protobuf": spans_from_protobuf, "application/json": spans_from_json}


class Receiver:
    """Listens from its making until ``close``; ``spans()`` are those that came, ``dropped`` how many were over the bound."""

    def __init__(self, port: int) -> None:
        self._lock, self._spans, self.dropped = threading.Lock(), [], 0  # type: tuple[threading.Lock, list[Span], int]
        try:
            self._server = _Server(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise CannotMeasure(
                f"cannot listen for traces on 127.0.0.1:{port}", why=error.strerror or str(error), fix="set target.otlp_port to a free port"
            ) from None
        self._server.receiver = self
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="otlp", daemon=True).start()

    def take(self, spans: list[Span]) -> None:
        """Keep spans, up to the bound."""
        with self._lock:
            room = SPANS_MAX - len(self._spans)
            self._spans += spans[:room]
            self.dropped += max(0, len(spans) - room)

    def spans(self) -> list[Span]:
        """All that came so far."""
        with self._lock:
            return list(self._spans)

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._spans, self.dropped = [], 0

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32
    receiver: Receiver


class _Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = WAIT_S
    server: _Server

    def do_POST(self) -> None:
        """Take spans, or say what is wrong."""
        try:
            form = self.headers.get_content_type()
            body = self._body()
            if self.path not in PATHS:
                raise _Refused(404, f"there is {', '.join(PATHS)}")
            if form not in _FORMS:
                raise _Refused(415, f"send {' or '.join(_FORMS)}")
            if self.path == "/v1/traces":
                self.server.receiver.take(_FORMS[form](body))
            self._reply(200, form, b"{}" if form == "application/json" else b"")
        except _Refused as refused:
            self._reply(refused.status, "text/plain", str(refused).encode())
        except ValueError as error:
            self._reply(400, "text/plain", str(error)[:200].encode())

    def _body(self) -> bytes:
        if "transfer-encoding" in self.headers:
            raise _Refused(411, "send a Content-Length")
        try:
            length = int(self.headers.get("content-length", ""))
        except ValueError:
            raise _Refused(411, "send a Content-Length") from None
        if not 0 <= length <= BODY_MAX_BYTES:
            raise _Refused(413, f"at most {BODY_MAX_BYTES} bytes")
        body = self.rfile.read(length)
        if len(body) != length:
            raise _Refused(400, "the body is shorter than it says")
        coding = self.headers.get("content-encoding", "identity")
        if coding == "identity":
            return body
        if coding not in ("gzip", "deflate"):
            raise _Refused(415, "send gzip, deflate or identity")
        try:
            unpacker = zlib.decompressobj(31 if coding == "gzip" else 15)
            unpacked = unpacker.decompress(body, UNPACKED_MAX_BYTES)
        except zlib.error as error:
            raise _Refused(400, f"no {coding}: {error}") from None
        if unpacker.unconsumed_tail:
            raise _Refused(413, f"at most {UNPACKED_MAX_BYTES} bytes unpacked")
        if not unpacker.eof:
            raise _Refused(400, f"{coding} that ends early")
        return unpacked

    def _reply(self, status: int, form: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", form)
        self.send_header("Content-Length", str(len(body)))
        if status >= 400:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that http.server uses
        """Nothing is printed."""
