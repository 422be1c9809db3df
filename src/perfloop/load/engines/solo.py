"""A blocking HTTP/1.1 client that sends one request after another on one keep-alive connection: the latency without any queueing of ours."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from perfloop.errors import CannotMeasure
from perfloop.load.engines.requests import Origin, Template, build_templates, parse_origin
from perfloop.load.engines.response import ProtocolError, ResponseReader
from perfloop.model.journey import Step
from perfloop.model.run import StepSamples
from perfloop.stats.histogram import Histogram

READ_BYTES = 2**18


def send_alone(
    base_url: str,
    step: Step,
    requests_max: int,
    duration_max_s: float,
    headers: Sequence[tuple[str, str]] = (),
    timeout_s: float = 10.0,
    cpu: int | None = None,
    ca_file: str = "",
) -> StepSamples:
    """Sends the step's paths in turn, each request after the response of the one before; latency in seconds from its start.

    Ends after ``requests_max`` requests or ``duration_max_s``. The calling thread runs on core ``cpu`` meanwhile. Failures are counted by class as
    in the open engine. ``UsageError`` for requests that cannot be made; ``CannotMeasure`` for a host or CA file that is none.
    """
    origin = parse_origin(base_url)
    templates = build_templates(origin, step.method, step.paths, (*headers, *step.headers), step.body)
    client, latency = _Client(origin, timeout_s, ca_file), Histogram()
    errors: dict[str, int] = {}
    sent = bytes_in = 0
    end_s = time.monotonic() + duration_max_s
    with _on_core(cpu):
        try:
            while sent < requests_max and time.monotonic() < end_s:
                start_s = time.monotonic()
                error = client.send(templates[sent % len(templates)], start_s + timeout_s)
                sent += 1
                bytes_in += client.reader.size_bytes
                if error:
                    errors[error] = errors.get(error, 0) + 1
                else:
                    latency.record(time.monotonic() - start_s)
        finally:
            client.close()
    return StepSamples(name=step.name, sent=sent, ok=latency.count, errors=errors, bytes_in=bytes_in, latency=latency.to_data())


class _Client:
    def __init__(self, origin: Origin, timeout_s: float, ca_file: str) -> None:
        self.reader = ResponseReader()
        self._origin, self._timeout_s = origin, timeout_s
        self._socket: socket.socket | None = None
        self._tls: ssl.SSLContext | None = None
        if origin.tls:
            try:
                self._tls = ssl.create_default_context(cafile=ca_file or None)
            except OSError as error:
                raise CannotMeasure(f"the CA file {ca_file} cannot be used", why=str(error), fix="give certificates in PEM form as target.ca_file") from error
        try:
            socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise CannotMeasure(f"{origin.host} cannot be resolved", why=str(error), fix="check the host in the URL") from error

    def send(self, template: Template, deadline_s: float) -> str:
        """One request; its error class, empty for a success. A connection that was closed while idle is replaced once."""
        reused = self._socket is not None
        error = self._exchange(template, deadline_s)
        if error == "reset" and reused and template.idempotent and not self.reader.size_bytes:
            error = self._exchange(template, deadline_s)
        return error

    def close(self) -> None:
        """Closes the connection, if there is one."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
            self._socket = None

    def _exchange(self, template: Template, deadline_s: float) -> str:
        self.reader.begin(template.head)
        try:
            if self._socket is None and not self._connect(deadline_s):
                return "connect"
            error = self._talk(template, deadline_s)
        except TimeoutError:
            error = "timeout"
        except ProtocolError:
            error = "protocol"
        except OSError:
            error = "reset"
        if error in ("timeout", "protocol", "reset") or not self.reader.keep_alive:
            self.close()
            self.reader = _emptied(self.reader)
        return error

    def _connect(self, deadline_s: float) -> bool:
        try:
            plain = socket.create_connection((self._origin.host, self._origin.port), timeout=max(0.001, deadline_s - time.monotonic()))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = self._tls.wrap_socket(plain, server_hostname=self._origin.host) if self._tls else plain
        except OSError:
            return False
        return True

    def _talk(self, template: Template, deadline_s: float) -> str:
        assert self._socket is not None
        self._socket.settimeout(max(0.001, deadline_s - time.monotonic()))
        self._socket.sendall(template.payload)
        while True:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:  # also against a server that drips
                raise TimeoutError
            self._socket.settimeout(left_s)
            data = self._socket.recv(READ_BYTES)
            if not data:
                return self.reader.error_class() if self.reader.complete_at_eof() else "reset"
            if self.reader.feed(data):
                return self.reader.error_class()


def _emptied(reader: ResponseReader) -> ResponseReader:
    """A reader for a new connection that still tells how much the last response had."""
    fresh = ResponseReader()
    fresh.size_bytes = reader.size_bytes
    return fresh


@contextmanager
def _on_core(cpu: int | None) -> Iterator[None]:
    if cpu is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError as error:
        raise CannotMeasure(f"cannot run on core {cpu}", why=str(error), fix="choose a core that this process may use") from error
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
