"""Errors and answers as text or as one JSON object."""

from __future__ import annotations

import json
from typing import Any

from perfloop.errors import PerfloopError, UndoFailed
from perfloop.report.text import printable


def error_text(error: PerfloopError) -> str:
    """The message for a terminal, without control characters; a stuck undo lists its commands."""
    lines = printable(error.render())
    if isinstance(error, UndoFailed) and error.commands:
        lines += "\n\nrun by hand:\n" + "\n".join(f"  {printable(command)}" for command in error.commands)
    return lines


def error_json(error: PerfloopError, code: int) -> str:
    """The message as one JSON object on one line."""
    body: dict[str, Any] = {"code": code, "what": error.what, "why": error.why, "fix": error.fix, "hint": error.hint}
    if isinstance(error, UndoFailed):
        body["commands"] = list(error.commands)
    return json.dumps({"ok": False, "error": body}, ensure_ascii=False)
