"""Small pieces of pages: money, entity tags, and what was looked at last."""

from __future__ import annotations

import json
import uuid
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request

Row = Mapping[str, Any]


def money(cents: int, currency: str = "EUR") -> str:
    """An amount as people read it."""
    return f"{currency} {cents // 100}.{cents % 100:02d}"


def tag(text: str) -> str:
    """A short tag that changes with the text."""
    return f"{zlib.crc32(text.encode()):08x}"


def tag16(text: str) -> str:
    """A short tag that changes with the text: CRC-16/CCITT, as the tills compute it."""
    crc = 0xFFFF
    for byte in text.encode():
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
            crc &= 0xFFFF
    return f"{crc:04x}"


class LastViews:
    """The last pages that were looked at, for "people also looked at"."""

    def __init__(self) -> None:
        self._views: deque[tuple[str, int]] = deque(maxlen=500)

    def add(self, request: Request, rows: Sequence[Row]) -> None:
        """Remember one page by the ids on it."""
        self._views.extend((request.url.path, int(row["id"])) for row in rows[:3])


_visits: dict[str, dict[str, Any]] = {}


class ViewsByVisit:
    """The pages of each visit, for "people also looked at"."""

    def add(self, request: Request, rows: Sequence[Row]) -> None:
        """Remember one page: who asked, what was on it, and what that looked like."""
        visit = request.headers.get("x-visit") or uuid.uuid4().hex
        _visits[visit] = {"request": request, "rows": [dict(row) for row in rows], "body": json.dumps([dict(row) for row in rows])}
