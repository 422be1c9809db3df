"""Metrics from CSV files, one column a metric and one row a moment, as Prometheus, Grafana and most monitoring systems export them."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from perfloop.errors import UsageError
from perfloop.model.metrics import MetricTable

BYTES_MAX = 256 * 2**20
CELLS_MAX = 4_000_000
COLUMNS_MAX = 5_000
NUMBERS_SHARE_MIN = 0.5  # of a column's cells, else it is no metric
TIME_NAMES = frozenset({"time", "timestamp", "ts", "date", "datetime", "epoch", "_time"})
_FIX = "the first row names the columns, further rows are numbers, one row a moment: time,web_cpu,db_latency"


def read_tables(paths: Sequence[Path]) -> MetricTable:
    """The rows of one file, or of several put after one another by the columns that all have. ``UsageError`` where a file is no such table."""
    tables = [_read(path) for path in paths]
    common = [name for name in tables[0].names if all(name in table.names for table in tables[1:])]
    if not common:
        raise UsageError("the files have no column in common", why=f"{paths[0].name} begins with {', '.join(tables[0].names[:3])}", fix=_FIX)
    notes = [note for table in tables for note in table.notes]
    left_out = sum(len(table.names) for table in tables) - len(tables) * len(common)
    notes += [f"{left_out} columns are in one of the files only and were left out"] if left_out else []
    columns = {name: [value for table in tables for value in table.columns[table.names.index(name)]] for name in common}
    timed = all(table.times_s for table in tables)
    return MetricTable(
        times_s=tuple(moment for table in tables for moment in table.times_s) if timed else (),
        names=tuple(common),
        columns=tuple(tuple(column) for column in columns.values()),
        parts=tuple(len(table.columns[0]) for table in tables),
        notes=tuple(notes),
    )


def _read(path: Path) -> MetricTable:
    try:
        if path.stat().st_size > BYTES_MAX:
            raise UsageError(
                f"{path} is too large", why=f"{path.stat().st_size / 2**20:,.0f} MiB, {BYTES_MAX // 2**20} are read at most", fix="export a shorter span"
            )
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            rows = _rows(path, file.read())
    except OSError as error:
        raise UsageError(f"cannot read {path}", why=error.strerror or str(error), fix="perfloop diagnose --metrics BEFORE.csv AFTER.csv") from None
    head, body = rows[0], rows[1:]
    moments, time_column = _times(head, body)
    order = sorted(range(len(body)), key=lambda index: moments[index]) if moments else range(len(body))
    names, columns, words = [], [], []
    for index, name in enumerate(head):
        if index == time_column or name in names:
            continue
        values = tuple(_number(body[row][index]) if index < len(body[row]) else None for row in order)
        if sum(value is not None for value in values) >= NUMBERS_SHARE_MIN * len(values):
            names.append(name)
            columns.append(values)
        else:
            words.append(name)
    if not names:
        raise UsageError(f"{path} has no column of numbers", why=f"its columns are {', '.join(head[:5])}", fix=_FIX)
    notes = (f"{path.name}: {len(words)} columns are no numbers and were left out ({', '.join(words[:3])})",) if words else ()
    return MetricTable(times_s=tuple(moments[row] for row in order) if moments else (), names=tuple(names), columns=tuple(columns), notes=notes)


def _rows(path: Path, text: str) -> list[list[str]]:
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=delimiter) if row]
    except csv.Error as error:
        raise UsageError(f"{path} is no CSV file", why=str(error), fix=_FIX) from None
    if len(rows) < 2 or all(_number(cell) is not None for cell in rows[0]):
        raise UsageError(f"{path} has no table of metrics", why="a row of names and rows of numbers were expected", fix=_FIX)
    width = len(rows[0])
    if width > COLUMNS_MAX or width * len(rows) > CELLS_MAX:
        raise UsageError(
            f"{path} is too large",
            why=f"{len(rows):,} rows of {width:,} columns; {CELLS_MAX:,} cells are read at most",
            fix="export a shorter span, or fewer metrics",
        )
    return rows


def _times(head: list[str], body: list[list[str]]) -> tuple[list[float], int]:
    """Seconds since the epoch of each row and the column they stand in; no times and −1 where there is none that can be read throughout."""
    for index, name in enumerate(head):
        if name.lower() in TIME_NAMES:
            moments = [_moment(row[index]) if index < len(row) else None for row in body]
            known = [moment for moment in moments if moment is not None]
            return (known, index) if len(known) == len(moments) else ([], index)
    return [], -1


def _moment(text: str) -> float | None:
    value = _number(text)
    if value is not None:
        while abs(value) > 1e11:  # milliseconds, microseconds, nanoseconds
            value /= 1000
        return value
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _number(text: str) -> float | None:
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
