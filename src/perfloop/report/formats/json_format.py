"""The result itself as one JSON object, ``ok`` first."""

from __future__ import annotations

import json

from perfloop.model.result import RunResult

ID = "json"
EXTENSION = "json"


def render(result: RunResult) -> str:
    """What ``run.json`` holds."""
    return json.dumps({"ok": result.ok, **result.model_dump(mode="json")}, ensure_ascii=False, indent=2) + "\n"
