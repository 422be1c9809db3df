"""A file as it was: kept aside whole before it is changed, and put back byte for byte, with its mode and owner, or taken away where there was none.

The image is one file in the state directory, readable by its owner only: a line of facts (mode, owner, absence), then the bytes.
Putting back is compare-and-swap: what is neither ours nor the old content is left alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfloop.change.base import ChangeContext, Note
from perfloop.errors import ChangeRefused, StorageError
from perfloop.host.files import read_limited, sync_folder, write_atomic
from perfloop.model.change import Change

FILE_MAX_BYTES = 2**20
_HEADER_MAX_BYTES = 4096

#: the new content from the old one (None: there is no file); the same bytes each time it is asked
Make = Callable[[bytes | None], bytes]
#: what somebody else made of our file, with our part of it taken back; raises where that is not ours any more
TakeBack = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Image:
    """The old file: ``data`` is None where there was none."""

    data: bytes | None
    mode: int = 0o600
    uid: int = -1
    gid: int = -1


def image_path(change: Change, context: ChangeContext, name: str = "") -> Path | None:
    """Where the old content of this change is kept; None where changes are only planned."""
    return context.image_dir / f"{change.id}{'.' + name if name else ''}.before" if context.image_dir else None


def content(path: Path) -> bytes | None:
    """The bytes of a file, None where there is none; ``ChangeRefused`` where it cannot be read, or has other names that a replacement would leave behind."""
    if not os.path.lexists(path):
        return None
    try:
        if path.stat().st_nlink > 1:
            raise ChangeRefused(f"{path} has several names (hard links)", why="replacing one would leave the others as they are", fix="give it one name")
        return read_limited(path, FILE_MAX_BYTES)
    except OSError as error:
        raise ChangeRefused(f"cannot read {path}", why=error.strerror or str(error), fix="correct the path or its permissions") from error
    except StorageError as error:
        raise ChangeRefused(error.what, why=error.why, fix="correct the path of the file") from error


def change_file(change: Change, context: ChangeContext, path: Path, make: Make, note: Note, name: str = "") -> None:
    """Keeps the file aside, durably, and replaces it."""
    image = image_path(change, context, name)
    if image is None:
        raise ChangeRefused(f"not applied: {change.title}", why="there is no place for the file's old content", fix="apply it through the guard")
    if image.exists():
        raise ChangeRefused(f"not applied: {change.title}", why=f"it was not undone since it was applied last: {image}", fix=f"perfloop rollback {change.id}")
    data = content(path)
    written = make(data)
    facts: dict[str, Any] = {"absent": data is None}
    if data is not None:
        info = path.stat()
        facts |= {"mode": info.st_mode & 0o7777, "uid": info.st_uid, "gid": info.st_gid}
    write_atomic(image, json.dumps(facts).encode() + b"\n" + (data or b""), mode=0o600)
    note({"type": "file", "path": str(path), "before_image": str(image), "written_sha256": hashlib.sha256(written).hexdigest(), **facts})
    write_atomic(path, written, mode=0o644 if data is None else None)


def load(image: Path) -> Image:
    """The old file from its image; ``StorageError`` where the image is damaged."""
    head, newline, data = read_limited(image, FILE_MAX_BYTES + _HEADER_MAX_BYTES).partition(b"\n")
    try:
        facts = json.loads(head)
        return Image(None) if facts["absent"] else Image(data, int(facts["mode"]), int(facts["uid"]), int(facts["gid"]))
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"the kept content {image} is damaged", why=str(error), fix="put the old value back by hand") from None
    finally:
        del newline


def touched(change: Change, context: ChangeContext, name: str = "") -> bool:
    """True while something of this change may be in effect: the image is made before the file is touched and taken away after all is undone."""
    image = image_path(change, context, name)
    return image is not None and image.exists()


def put_back(change: Change, context: ChangeContext, path: Path, make: Make, take_back: TakeBack, name: str = "") -> None:
    """The old file where it is still what we wrote; only our part where somebody edited the rest. Nothing where it was never touched."""
    image = image_path(change, context, name)
    if image is None or not image.exists():
        return
    old, live = load(image), content(path)
    _sweep(path, {os.geteuid(), old.uid})
    if live == old.data:
        return
    if live == make(old.data):
        _restore(path, old)
    elif live is not None:
        put_back_bytes(path, take_back(live))
    else:
        take_back(b"")


def forget(change: Change, context: ChangeContext, name: str = "") -> None:
    """Takes the image away: nothing of ours is left, so undoing again touches nothing. Where the state directory is read-only it stays: the old file is back."""
    image = image_path(change, context, name)
    if image is not None:
        with suppress(OSError):
            image.unlink(missing_ok=True)
            for leftover in image.parent.glob(f".{image.name}.*.new"):
                leftover.unlink(missing_ok=True)


def _restore(path: Path, old: Image) -> None:
    if old.data is None:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
        return
    put_back_bytes(path, old.data)
    info = path.stat()
    if info.st_mode & 0o7777 != old.mode:
        path.chmod(old.mode)
    if (info.st_uid, info.st_gid) != (old.uid, old.gid):
        with suppress(PermissionError):
            os.chown(path, old.uid, old.gid)


def put_back_bytes(path: Path, data: bytes) -> None:
    """Replaces the file, or, where its disk has no room for a second copy, overwrites it in place: an undo must not need space."""
    try:
        write_atomic(path, data)
    except StorageError:
        with path.open("r+b", buffering=0) as file:
            file.write(data)
            file.truncate()
            os.fsync(file.fileno())


def _sweep(path: Path, owners: set[int]) -> None:
    """Removes what a kill in the middle of an atomic write leaves beside the file: ours, or given to the file's owner already."""
    real = Path(os.path.realpath(path))
    for leftover in real.parent.glob(f".{real.name[:80]}.*.new"):
        if leftover.stat().st_uid in owners:
            leftover.unlink(missing_ok=True)
