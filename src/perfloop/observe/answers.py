"""One answer of each endpoint, as a browser or client would get it: how large it is, whether it is compressed, how many items it lists."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from perfloop.errors import PerfloopError
from perfloop.host.http import fetch
from perfloop.model.journey import Step
from perfloop.model.signals import ResponseObservation

BODY_MAX_BYTES = 16_000_000
ANSWER_MAX_S = 10.0
DEPTH_MAX = 4  # how deep an array is looked for in a JSON document
_GZIP = (("Accept-Encoding", "gzip"),)


def answers(base_url: str, steps: Iterable[Step], headers: Sequence[tuple[str, str]] = (), ca_file: str = "") -> tuple[ResponseObservation, ...]:
    """The answer to the first path of each GET step; a step that does not answer is left out."""
    found = []
    for step in steps:
        if step.method != "GET" or not step.paths:
            continue
        try:
            got = fetch(
                base_url.rstrip("/") + step.paths[0],
                headers=(*headers, *step.headers, *_GZIP),
                timeout_s=ANSWER_MAX_S,
                max_bytes=BODY_MAX_BYTES,
                ca_file=ca_file,
            )
        except PerfloopError:
            continue
        found.append(_observation(step.name, got.status, got.body, got.header("content-type"), got.header("content-encoding"), got.header("connection")))
    return tuple(found)


def _observation(step: str, status: int, body: bytes, kind: str, encoding: str, connection: str) -> ResponseObservation:
    plain = body
    if encoding == "gzip":
        try:
            plain = zlib.decompressobj(31).decompress(body, BODY_MAX_BYTES)
        except zlib.error:
            plain = b""
    return ResponseObservation(
        step=step,
        status=status,
        body_bytes=len(body),
        content_type=kind.partition(";")[0].strip(),
        content_encoding=encoding,
        closes=connection.lower() == "close",
        items=_items(plain) if "json" in kind else None,
        gzip_bytes=len(zlib.compress(body, 6)) if not encoding else None,
    )


def _items(body: bytes) -> int | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return _longest(document, 0)


def _longest(value: Any, depth: int) -> int:
    if isinstance(value, list):
        return len(value)
    if isinstance(value, dict) and depth < DEPTH_MAX:
        return max((_longest(item, depth + 1) for item in value.values()), default=0)
    return 0
