"""The label of a request that has none: its path with what varies left out."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_IDENTIFIER = re.compile(r"\d+|[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|(?=.*\d)[0-9a-fA-F]{16,64}")


def template(path: str) -> str:
    """A path with its numbers, UUIDs and long hex ids as ``{id}``, and its query by names only: ``/orders/{id}?page={page}``."""
    parts = urlsplit(path)
    shape = "/".join("{id}" if _IDENTIFIER.fullmatch(segment) else segment for segment in parts.path.split("/"))
    names = sorted({pair.split("=", 1)[0] for pair in parts.query.split("&") if pair})
    return shape + ("?" + "&".join(f"{name}={{{name}}}" for name in names) if names else "")
