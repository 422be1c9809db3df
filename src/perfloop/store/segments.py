"""The files of the audit log: daily segments, the head record beside them, retention by whole segments, and the check of all of it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from perfloop.errors import StorageError
from perfloop.host.files import read_limited, storage_error
from perfloop.store.chain import GENESIS, check_line, keyed

SEGMENT_MAX_BYTES = 8 * 2**20
_LINE_MAX_BYTES = 2**20


@dataclass(frozen=True)
class Head:
    """Where the chain stands: its lines and last hash, the segment they end in, and where it begins after old segments were deleted."""

    count: int = 0
    hash: str = GENESIS
    segment: str = ""
    size_bytes: int = 0
    first_sequence: int = 1
    first_previous_hash: str = GENESIS
    pruned: tuple[str, ...] = ()
    broken: str = ""  # damage that an append met; stays, so that going on never hides it
    sealed_from: int = 1  # lines before it were written by a perfloop that had no key yet
    mac: str = ""

    def seal(self, key: bytes) -> str:
        """What only the key's holder can put into ``mac``."""
        return keyed(key, json.dumps(asdict(replace(self, mac="")), sort_keys=True))

    def advanced(self, line_hash: str, segment: str, size_bytes: int) -> Head:
        """The head after one more line."""
        return replace(self, count=self.count + 1, hash=line_hash, segment=segment, size_bytes=size_bytes)


def files(folder: Path) -> list[Path]:
    """All segments, oldest first."""
    return sorted(folder.glob("audit-????????-???.jsonl"))


def read_head(folder: Path) -> Head:
    """The head record; an empty one where nothing was written yet."""
    path = folder / "head.json"
    if not path.exists():
        return Head(broken="the head record is missing although there are lines" if files(folder) else "")
    try:
        fields = json.loads(read_limited(path, _LINE_MAX_BYTES))
        return Head(**(fields | {"pruned": tuple(fields["pruned"])}))
    except (ValueError, TypeError, KeyError) as error:
        raise StorageError(
            f"the head record of the audit log is damaged: {path}", why=str(error), fix=f"keep a copy of {folder} as evidence, then move that folder away"
        ) from None


def write_head(folder: Path, head: Head, key: bytes) -> None:
    """Replaces the head record. It may lag behind after a power cut: the lines, which never do, are adopted then, each by its own key check."""
    path = folder / "head.json"
    new = folder / f".head.json.{os.getpid()}.new"  # whoever writes it holds the log's lock
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            data = json.dumps(asdict(replace(head, mac=head.seal(key)))).encode()
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            os.close(descriptor)
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise storage_error(error, path, "write") from None


def current(folder: Path, head: Head, now: datetime) -> Path:
    """The segment to append to: today's, or the next one when that is full. A clock that went back never reopens an older day."""
    day = f"{now:%Y%m%d}"
    if head.segment and head.segment[6:14] >= day:
        day, number = head.segment[6:14], int(head.segment[15:18])
        if head.size_bytes >= SEGMENT_MAX_BYTES and number < 999:
            number += 1
    else:
        number = 1
    return folder / f"audit-{day}-{number:03d}.jsonl"


def recovered_head(folder: Path, key: bytes) -> Head:
    """The head to append after. A crash between a line and its head record leaves whole lines ahead (adopted) or half a line (cut off); anything else is remembered as damage."""
    head = read_head(folder)
    if head.count and head.mac != head.seal(key):
        head = replace(head, broken=head.broken or "the head record was written without the log's key")
    if head.broken and not head.segment:  # no head record at all: go on after the last readable line
        last = newest(folder, 1)
        if last:
            head = replace(head, count=int(last[0].get("sequence", 0)), hash=str(last[0].get("hash", GENESIS)), segment=files(folder)[-1].name)
            head = replace(head, size_bytes=(folder / head.segment).stat().st_size)
    for path in files(folder):
        if path.name < head.segment:
            continue
        known = head.size_bytes if path.name == head.segment else 0
        size = path.stat().st_size
        if size < known:
            return replace(head, broken=head.broken or f"{path.name} was cut before line {head.count + 1}", size_bytes=size)
        if size > known:
            head = _adopt(path, known, head, key)
    return head


def _adopt(path: Path, known_bytes: int, head: Head, key: bytes) -> Head:
    with path.open("rb+") as file:
        file.seek(known_bytes)
        position = known_bytes
        for line in file.read(16 * _LINE_MAX_BYTES).splitlines(keepends=True):
            if not line.endswith(b"\n"):
                file.truncate(position)  # a crash in the middle of an append: this line was never acknowledged
                break
            record, problem = check_line(line.decode("utf-8", "replace"), head.count + 1, head.hash, key)
            if record is None or problem:
                return replace(head, broken=head.broken or f"line {head.count + 1} in {path.name} {problem}", size_bytes=path.stat().st_size, segment=path.name)
            position += len(line)
            head = head.advanced(record["hash"], path.name, position)
    return head


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for line in file:
            yield line[:_LINE_MAX_BYTES].decode("utf-8", "replace")


def newest(folder: Path, limit: int) -> list[dict[str, Any]]:
    """The newest ``limit`` readable lines, oldest of them first."""
    found: list[dict[str, Any]] = []
    for path in reversed(files(folder)):
        records = []
        for line in _lines(path):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                records.append(record)
        found = records[-(limit - len(found)) :] + found
        if len(found) >= limit:
            break
    return found


def problems(folder: Path, key: bytes, anchors: Mapping[int, str] | None = None) -> tuple[str, ...]:
    """Everything that does not fit: each line against its hash, the key and the one before, then the end against the head record.

    ``anchors`` are hashes that were kept elsewhere (in reports, in forwarded events), by the number of their line.
    """
    head = read_head(folder)
    found = [head.broken] if head.broken else []
    if head.count and head.mac != head.seal(key):
        found.append("the head record was written without the log's key")
    sequence, previous, left = head.first_sequence, head.first_previous_hash, dict(anchors or {})
    open_operations: dict[str, int] = {}
    for path in files(folder):
        for number, line in enumerate(_lines(path), start=1):
            if not line.endswith("\n") and sequence > head.count:
                continue  # half a line after the acknowledged end: a crash, not tampering
            record, problem = check_line(line, sequence, previous, key if sequence >= head.sealed_from else None)
            if problem:
                found.append(f"{path.name} line {number} {problem}")
            sequence = int(record.get("sequence", sequence)) + 1 if record and isinstance(record.get("sequence"), int) else sequence + 1
            previous = str(record.get("hash", "")) if record else ""
            if record:
                _count(open_operations, record)
            if sequence - 1 == head.count and previous != head.hash:
                found.append(f"{path.name} line {number} is not the line that the head record names")
            if left.pop(sequence - 1, previous) != previous:
                found.append(f"{path.name} line {number} is not the one that was anchored elsewhere: everything from there on was written anew")
    if sequence - 1 < head.count:
        found.append(f"the end is missing: the head record knows {head.count} lines, the last one here is {sequence - 1}")
    found += [f"line {number} is gone, and was anchored elsewhere" for number in sorted(left) if number >= sequence]
    found += [f"operation {name} has an end line and no begin line" for name, count in open_operations.items() if count < 0 and head.first_sequence == 1]
    return tuple(found)


def _count(operations: dict[str, int], record: dict[str, Any]) -> None:
    name = str(record.get("operation_id", ""))
    operations[name] = operations.get(name, 0) + (1 if record.get("outcome") == "in_progress" else -1)


def prune(folder: Path, keep_days: int, key: bytes) -> int:
    """Deletes segments whose day is more than ``keep_days`` ago, never the newest, and notes in the head record where the chain goes on."""
    cutoff = f"{datetime.now(UTC) - timedelta(days=keep_days):%Y%m%d}"
    head = read_head(folder)
    old = [path for path in files(folder)[:-1] if path.name[6:14] < cutoff]
    for path in old:
        last: dict[str, Any] = {}
        for line in _lines(path):
            last = json.loads(line)
        head = replace(
            head, first_sequence=int(last["sequence"]) + 1, first_previous_hash=str(last["hash"]), pruned=(*head.pruned[-99:], f"{path.name} {last['hash']}")
        )
        write_head(folder, head, key)  # first, so that a crash here leaves a file too many and never a hole
        path.unlink()
    return len(old)
