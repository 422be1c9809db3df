"""The end of the audit log: one line more, chained, sealed, and on the disk when the call returns.

What was written last need not be read again: inode, time and size of the head record and of the segment tell whether anybody else went on since.
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from perfloop.host.files import storage_error, sync_folder
from perfloop.store import keys, locks, segments
from perfloop.store.chain import keyed, line_hash

#: inode, time of change and size of a file; None where there is none
Identity = tuple[int, int, int] | None


class Appender:
    """Appends to the log in ``folder``. Safe from several processes; each has its own."""

    def __init__(self, folder: Path, key_file: Path) -> None:
        self._folder, self._key_file = folder, key_file
        self._head: tuple[segments.Head, Identity] = (segments.Head(), None)
        self._key: tuple[bytes, Identity] = (b"", None)

    def locked(self) -> AbstractContextManager[None]:
        """Nobody else appends during the block."""
        return locks.held(self._folder / "log.lock", timeout_s=30.0, what="the audit log")

    def append(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Writes the line and returns its fields, with their place in the chain. ``StorageError`` where the disk does not take it: then nothing of it is there."""
        with self.locked():
            key = self.key()
            now = datetime.now(UTC)
            head = self._current(key, now)
            fields = fields | {"sequence": head.count + 1, "previous_hash": head.hash, "hash": "", "mac": ""}
            fields["hash"] = line_hash(fields)
            fields["mac"] = keyed(key, fields["hash"])
            line = json.dumps(fields, ensure_ascii=False, allow_nan=False).encode() + b"\n"
            path = segments.current(self._folder, head, now)
            try:
                size = _append(path, line)
            except OSError as error:
                raise storage_error(error, path, "write") from None
            head = head.advanced(fields["hash"], path.name, size)
            segments.write_head(self._folder, head, key)
            self._head = head, _identity(self._folder / "head.json")
        return fields

    def key(self) -> bytes:
        """The key; where it is made now, a log of a perfloop that had none is sealed from its next line on."""
        known = _identity(self._key_file)
        if known and known == self._key[1]:
            return self._key[0]
        key = keys.mac_key(self._key_file)
        if not known and (self._folder / "head.json").exists():
            head = segments.read_head(self._folder)
            if not head.mac:
                segments.write_head(self._folder, replace(head, sealed_from=head.count + 1), key)
        self._key = key, _identity(self._key_file)
        return key

    def _current(self, key: bytes, now: datetime) -> segments.Head:
        """The head to append after: the one that we wrote, where nothing moved since, else as the files say."""
        head, written = self._head
        if written and written == _identity(self._folder / "head.json"):
            last, following = _identity(self._folder / head.segment), segments.current(self._folder, head, now)
            if last and last[2] == head.size_bytes and (following.name == head.segment or not following.exists()):
                return head
        if not (self._folder / "head.json").exists() and not segments.files(self._folder):
            segments.write_head(self._folder, segments.Head(), key)  # so that from the first line on its absence is damage
        return segments.recovered_head(self._folder, key)


def _append(path: Path, line: bytes) -> int:
    """The size of the segment with the line in it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        before = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, "No space left on device")
            os.fdatasync(descriptor)  # the size is part of what it flushes; the time of change is not, and nobody needs it
            if not before:
                sync_folder(path.parent)
        except OSError:
            os.ftruncate(descriptor, before)  # half a line would look like tampering
            raise
        return before + len(line)
    finally:
        os.close(descriptor)


def _identity(path: Path) -> Identity:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_ino, info.st_mtime_ns, info.st_size
