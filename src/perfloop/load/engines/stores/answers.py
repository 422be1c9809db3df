"""What a journey sees of a database's or cache's answer, and what became of a question that has none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from perfloop.load.engines.reply import NO_HEAD, Reply


class StoreError(Exception):
    """A question ended without an answer; ``error`` is its class: connect, timeout, reset, protocol, server_error or script."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(detail)
        self.error = error


class Answer(Reply):
    """``rows`` of a statement (tuples), ``columns`` their names; ``value`` is the first value of the first row, or what Redis said. ``json()`` has rows as objects."""

    __slots__ = ("columns", "rows", "sent_bytes", "value")

    def __init__(self, value: Any = None, columns: Sequence[str] = (), rows: Sequence[Sequence[Any]] = (), error: str = "") -> None:
        super().__init__(NO_HEAD, b"", error, 0, 0.0)
        self.value, self.columns, self.rows, self.sent_bytes = value, columns, rows, 0

    @classmethod
    def of_rows(cls, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Answer:
        """The answer of a statement."""
        return cls(rows[0][0] if rows and rows[0] else None, columns, rows)

    @property
    def body(self) -> bytes:
        """The answer as JSON text: what checks of the body read."""
        return json.dumps(self.json(), ensure_ascii=False).encode()

    def json(self) -> Any:
        """Rows as a list of objects, or what Redis said, as plain values."""
        if self.columns:
            return [{name: _plain(value) for name, value in zip(self.columns, row, strict=True)} for row in self.rows]
        return _plain(self.value)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    return str(value)
