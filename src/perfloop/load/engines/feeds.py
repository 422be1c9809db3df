"""Rows of data for journeys: CSV with a header line, or JSON lines. The n-th iteration of the whole run gets row n."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from perfloop.errors import UsageError

FILE_MAX_BYTES = 256 * 2**20


class FeedEndedError(Exception):
    """There is no row left, and the feed may not begin again."""


class Rows:
    """The rows of one file, in their order or in a random one that the seed decides."""

    def __init__(self, name: str, text: str, order: str, stop: bool, seed: int) -> None:
        self._name, self._stop = name, stop
        self.columns, self._rows = _read_json(name, text) if name.endswith((".jsonl", ".ndjson")) else _read_csv(name, text)
        if not self._rows:
            raise UsageError(f"the data file {name} has no rows", fix="give a CSV file with a header line and rows, or JSON lines (.jsonl)")
        self._order: list[int] | None = None
        if order == "random":
            self._order = list(range(len(self._rows)))
            Random(f"{seed} {name}").shuffle(self._order)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, number: int) -> dict[str, Any]:
        """The row of an iteration; after the last one the first again, or ``FeedEndedError``."""
        if self._stop and number >= len(self._rows):
            raise FeedEndedError(f"the {len(self._rows)} rows of {self._name} are used up")
        place = number % len(self._rows)
        return dict(zip(self.columns, self._rows[self._order[place] if self._order else place], strict=True))


def load_rows(feed: dict[str, Any], seed: int) -> Rows:
    """The rows of a ``Feed``; ``UsageError`` where the file is none."""
    return Rows(feed["file"], feed["content"] or read_text(feed["file"]), feed["order"], feed["stop"], seed)


def read_text(file: str) -> str:
    """A data file as text; ``UsageError`` where it cannot be read."""
    try:
        if Path(file).stat().st_size > FILE_MAX_BYTES:
            raise UsageError(f"the data file {file} is larger than {FILE_MAX_BYTES // 2**20} MiB", fix="give fewer rows: they begin again at the end")
        return Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the data file {file} cannot be read", why=str(error), fix="give a file in UTF-8, relative to the configuration") from error


def feeder(rows: Rows, ended: Callable[[str], None]) -> Callable[[int], dict[str, Any]]:
    """Gives the row of an iteration; where there is none it says so, and gives nothing."""

    def give(number: int) -> dict[str, Any]:
        try:
            return rows.row(number)
        except FeedEndedError as end:
            ended(str(end))
            return {}

    return give


def _read_csv(name: str, text: str) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    try:
        header, *rows = [tuple(row) for row in csv.reader(io.StringIO(text), strict=True) if row] or [()]
    except csv.Error as error:
        raise UsageError(f"{name} is no CSV", why=str(error), fix="one row a line, fields in double quotes where they have commas") from error
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise UsageError(f"row {number} of {name} has {len(row)} fields", why=f"the header line has {len(header)}", fix="correct that row")
    return header, rows


def _read_json(name: str, text: str) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    columns: tuple[str, ...] = ()
    rows: list[tuple[Any, ...]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"line {number} of {name} is no JSON", why=str(error), fix="one object a line") from error
        columns = columns or tuple(row) if isinstance(row, dict) else ()
        if not isinstance(row, dict) or set(row) != set(columns):
            raise UsageError(f"line {number} of {name} has other fields than the first", fix="give each object the same fields")
        rows.append(tuple(row[column] for column in columns))
    return columns, rows
