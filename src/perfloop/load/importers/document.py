"""A JSON or YAML document as plain values: what OpenAPI documents and HAR files are written in."""

from __future__ import annotations

import json
from typing import Any

from perfloop.errors import UsageError

NODES_MAX = 1_000_000  # a small YAML file can unfold to any size by its references
DEPTH_MAX = 200
_FIX = "give an OpenAPI document (JSON or YAML) or a HAR file"


def read_document(text: str, name: str, yaml: bool = False) -> dict[str, Any]:
    """The document's object; ``UsageError`` says why it is none. In YAML keys become text (``200:``), and dates as they are written."""
    document = _yaml(text, name) if yaml else _json(text, name)
    if not isinstance(document, dict):
        raise UsageError(f"{name} holds no object", fix=_FIX)
    return document


def is_yaml(name: str) -> bool:
    """True for the name of a YAML file."""
    return name.lower().endswith((".yaml", ".yml"))


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not JSON", why=str(error)[:200], fix=_FIX) from None


def _yaml(text: str, name: str) -> Any:
    import yaml

    try:
        return _plain(yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), [NODES_MAX], 0)  # noqa: S506 -- the safe loader, in C where there is one
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not YAML that can be read", why=" ".join(str(error).split())[:200], fix=_FIX) from None


def _plain(value: Any, left: list[int], depth: int) -> Any:
    left[0] -= 1
    if left[0] < 0 or depth > DEPTH_MAX:
        raise ValueError(f"it unfolds to more than {NODES_MAX} values, or is nested deeper than {DEPTH_MAX}")
    if isinstance(value, dict):
        return {str(key): _plain(item, left, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, left, depth + 1) for item in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)
