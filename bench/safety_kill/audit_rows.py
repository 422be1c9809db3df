"""The audit log of 10,000 records, and everybody who meddles with it."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.table import Row
from perfloop.store import keys, segments
from perfloop.store.audit import AuditLog
from perfloop.store.chain import check_line, keyed, line_hash

RECORDS = 10_000
WHOLE_CHECKS = 100  # of each kind of meddling, checked by the product's whole verification
Lines = list[str]


def timing() -> list[Row]:
    """What 10,000 records cost to write, each on the disk before the next, and to verify."""
    with tempfile.TemporaryDirectory(prefix="pl-audit-") as folder:
        started = time.perf_counter()
        audit = _written(Path(folder) / "state")
        ms = (time.perf_counter() - started) / RECORDS * 1000
        started = time.perf_counter()
        whole = audit.verify() == ()
        check_s = time.perf_counter() - started
    return [Row("audit: a record written, on the disk", round(ms, 3), "ms", "< 1 ms", ms < 1), _false_alarm(whole, check_s)]


def meddling() -> list[Row]:
    """10,000 records, every one of them meddled with."""
    folder = Path(tempfile.mkdtemp(prefix="pl-audit-"))
    try:
        audit = _written(folder / "state")
        lines = [line for path in segments.files(audit.folder) for line in path.read_text().splitlines(keepends=True)]
        key = keys.mac_key(keys.key_file(folder / "state"))
        return [_each_record(lines, key), *(_whole(name, meddle, folder, lines) for name, meddle in MEDDLING.items())]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _written(state: Path) -> AuditLog:
    """The log of 5,000 operations."""
    audit = AuditLog(state)
    for number in range(RECORDS // 2):
        operation = audit.begin(
            operation="index_creation",
            command=f"CREATE INDEX i{number};",
            rollback_command=f"DROP INDEX i{number};",
            resources=("database:shop", "table:t"),
        )
        audit.end(operation, "success", performance_impact={"improvement_percent": 9.5})
    return audit


def _false_alarm(whole: bool, check_s: float) -> Row:
    return Row("audit: the untouched log is called whole", 100.0 if whole else 0.0, "%", "100 %", whole, why=f"10,000 records verified in {check_s:.2f} s")


def _edit(lines: Lines, at: int, _: Path) -> Lines:
    return [*lines[:at], lines[at].replace("index_creation", "index_creatiom"), *lines[at + 1 :]]


def _delete(lines: Lines, at: int, _: Path) -> Lines:
    return lines[:at] + lines[at + 1 :]


def _swap(lines: Lines, at: int, _: Path) -> Lines:
    at = min(at, len(lines) - 2)
    return [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]


def _truncate(lines: Lines, at: int, _: Path) -> Lines:
    return lines[:at]


def _rewrite(lines: Lines, at: int, state: Path) -> Lines:
    """The chain and the head record are made anew from there on, by somebody who knows everything but the key."""
    records = [json.loads(line) for line in lines]
    records[at]["user"] = "somebody else"
    previous = records[at]["previous_hash"]
    for record in records[at:]:
        record["previous_hash"] = previous
        record["hash"] = previous = line_hash(record)
        record["mac"] = keyed(b"a guess" * 5, record["hash"])
    head = json.loads((state / "audit" / "head.json").read_text())
    head |= {"hash": previous, "mac": ""}
    (state / "audit" / "head.json").write_text(json.dumps(head))
    return [json.dumps(record, ensure_ascii=False) + "\n" for record in records]


MEDDLING: dict[str, Callable[[Lines, int, Path], Lines]] = {
    "edit": _edit,
    "deletion": _delete,
    "swap": _swap,
    "truncation": _truncate,
    "rewrite of all that follows, without the key": _rewrite,
}


def _whole(name: str, meddle: Callable[[Lines, int, Path], Lines], folder: Path, lines: Lines) -> Row:
    """The product's own verification, on copies of the log."""
    places = random.Random(7).sample(range(len(lines)), WHOLE_CHECKS)
    found = 0
    for at in places:
        copy = folder / "copy"
        shutil.copytree(folder / "state", copy)
        files = segments.files(copy / "audit")
        changed = meddle(lines, at, copy)
        for path in files:
            path.unlink()
        _write(files, changed)
        found += AuditLog(copy).verify() != ()
        shutil.rmtree(copy)
    return Row(f"audit: {name} found, of {len(places)}", 100 * found / len(places), "%", "100 %", found == len(places))


def _write(files: list[Path], lines: Lines) -> None:
    """Into as many segments as there were, by size."""
    size, number = 0, 0
    parts: dict[Path, Lines] = {path: [] for path in files}
    for line in lines:
        parts[files[number]].append(line)
        size += len(line.encode())
        if size >= segments.SEGMENT_MAX_BYTES and number < len(files) - 1:
            size, number = 0, number + 1
    for path, content in parts.items():
        path.write_text("".join(content))


def _each_record(lines: Lines, key: bytes) -> Row:
    """Every record edited, deleted, swapped and written anew: the line check that verification consists of, on the lines around it."""
    missed, tried = 0, 0
    for at in range(len(lines) - 1):
        record = json.loads(lines[at])
        sequence, previous = record["sequence"], record["previous_hash"]
        for window in (
            [lines[at].replace("index_creation", "index_creatiom"), lines[at + 1]],
            [lines[at + 1]],
            [lines[at + 1], lines[at]],
            [_forged(record)],
        ):
            tried += 1
            missed += not _problem(window, sequence, previous, key)
    return Row(f"audit: each record edited, deleted, swapped, forged: found, of {tried:,}", 100 * (tried - missed) / tried, "%", "100 %", missed == 0)


def _forged(record: dict[str, Any]) -> str:
    forged = {**record, "user": "somebody else"}
    forged["hash"] = line_hash(forged)
    return json.dumps(forged) + "\n"


def _problem(window: Lines, sequence: int, previous: str, key: bytes) -> bool:
    for line in window:
        record, problem = check_line(line, sequence, previous, key)
        if problem:
            return True
        assert record is not None
        sequence, previous = sequence + 1, record["hash"]
    return False
