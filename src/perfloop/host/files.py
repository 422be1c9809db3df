"""Files: written whole or not at all, read up to a limit."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from perfloop.errors import StorageError

READ_MAX_BYTES = 64 * 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_atomic(path: str | Path, data: bytes, fsync: bool = True, mode: int | None = None) -> None:
    """Replace a file by ``data``, or leave it as it was: written beside it, flushed to the disk, and renamed over it.

    ``mode`` are the permission bits; None keeps those of the old file (0600 for a new one). Raises StorageError: disk full, no permission, no such folder.
    """
    path = Path(path)
    temporary = ""
    try:
        target = Path(os.path.realpath(path))  # a symbolic link is kept: what it points to is replaced
        bits, owner = _mode_and_owner(target)
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name[:80]}.", suffix=".new", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), bits if mode is None else mode)
            if owner is not None and owner != (os.geteuid(), os.getegid()) and os.geteuid() == 0:
                os.fchown(file.fileno(), *owner)
            _copy_attributes(target, file.fileno())
            if fsync:
                os.fsync(file.fileno())
        Path(temporary).replace(target)
        temporary = ""
        if fsync:
            sync_folder(target.parent)
    except OSError as error:
        raise storage_error(error, path, "write") from None
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _copy_attributes(source: Path, handle: int) -> None:
    """Extended attributes (access lists, labels) go along, as far as we may set them."""
    if not hasattr(os, "listxattr") or not source.exists():
        return
    with suppress(OSError):
        for name in os.listxattr(source):
            with suppress(OSError):
                os.setxattr(handle, name, os.getxattr(source, name))


def _mode_and_owner(path: Path) -> tuple[int, tuple[int, int] | None]:
    try:
        info = path.stat()
    except FileNotFoundError:
        return 0o600, None
    return stat.S_IMODE(info.st_mode), (info.st_uid, info.st_gid)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a file renamed into it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_limited(path: str | Path, max_bytes: int = READ_MAX_BYTES) -> bytes:
    """The bytes of a file; StorageError where it cannot be read, is no regular file, or is larger than ``max_bytes``."""
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise StorageError(f"cannot read {path}", "it is not a regular file", "name a file")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise storage_error(error, path, "read") from None
    if len(data) > max_bytes:
        raise StorageError(f"cannot read {path}", f"it is larger than {max_bytes} bytes", "name a smaller file")
    return data


def storage_error(error: OSError, path: str | Path, verb: str) -> StorageError:
    """The message for an operating-system error met while doing ``verb`` (write, read, open) to a file."""
    if error.errno in _FULL:
        return StorageError(
            f"cannot {verb} {path}: the disk is full",
            f"{error.strerror} on the file system of {Path(path).parent}",
            f"free some space there (df -h {Path(path).parent}), then run the command again",
        )
    if error.errno == errno.EROFS:
        return StorageError(f"cannot {verb} {path}", "the file system is mounted read-only", "use a folder that can be written")
    if isinstance(error, PermissionError):
        return StorageError(f"cannot {verb} {path}", "permission denied", f"run as the owner of it: ls -ld {path}")
    if isinstance(error, FileNotFoundError):
        return StorageError(f"cannot {verb} {path}", "no such file or folder", f"look what is there: ls {Path(path).parent}")
    return StorageError(f"cannot {verb} {path}", error.strerror or type(error).__name__, f"look at it: ls -ld {path}")


def free_bytes(folder: str | Path) -> int:
    """Bytes that an unprivileged user may still write on the file system of ``folder`` (or of its nearest existing parent)."""
    place = Path(folder).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    info = os.statvfs(place)
    return info.f_bavail * info.f_frsize
