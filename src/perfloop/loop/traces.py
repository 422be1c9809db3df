"""Traces as evidence: the receiver listens while perfloop works, and each window gets the spans that began in it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from perfloop.errors import CannotMeasure
from perfloop.model.calls import CallsObservation
from perfloop.model.config import Config
from perfloop.model.evidence import Unavailable
from perfloop.observe.traces import calls_from_spans
from perfloop.wire.otlp_server import Receiver

LATE_S = 6.0  # exporters send every 5 s
_receivers: dict[int, Receiver | Unavailable] = {}


def listen(config: Config) -> None:
    """Open the receiver where one is configured: early, because an exporter that was refused comes back late."""
    port = config.target.otlp_port
    if port is not None and not isinstance(_receivers.get(port), Receiver):
        try:
            _receivers[port] = Receiver(port)
        except CannotMeasure as error:
            _receivers[port] = Unavailable(probe="traces", reason=f"{error.what}: {error.why}", fix=error.fix)


@dataclass
class Windows:
    """The windows of one look, in the clock of the spans."""

    port: int | None
    spans: list[tuple[int, int]] = field(default_factory=list)

    @contextmanager
    def window(self) -> Iterator[None]:
        """One window, from here to the end of the block."""
        began = time.time_ns()
        try:
            yield
        finally:
            self.spans.append((began, time.time_ns()))

    def collected(self) -> tuple[list[tuple[CallsObservation, ...]], tuple[Unavailable, ...]]:
        """For each window what its requests called, and what is missing; waits until the spans of the last one came, or no more can be expected."""
        nothing: list[tuple[CallsObservation, ...]] = [() for _ in self.spans]
        receiver = _receivers.get(self.port) if self.port is not None else None
        if receiver is None or not self.spans:
            return nothing, ()
        if isinstance(receiver, Unavailable):
            return nothing, (receiver,)
        limit, end_ns, known = time.monotonic() + LATE_S, self.spans[-1][0], -1
        while time.monotonic() < limit:
            spans = receiver.spans()
            if len(spans) == known and any(span.start_ns >= end_ns for span in spans):
                break
            known = len(spans)
            time.sleep(0.5)
        spans = receiver.spans()
        receiver.forget()
        found = [calls_from_spans(spans, began, ended) for began, ended in self.spans]
        if not any(found):
            address = f"http://127.0.0.1:{self.port}"
            return found, (
                Unavailable(
                    probe="traces",
                    reason=f"no spans of a request came to {address}",
                    fix=f"start the service with OTEL_EXPORTER_OTLP_ENDPOINT={address} OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
                ),
            )
        return found, ()
