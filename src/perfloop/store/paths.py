"""Where things are stored: the machine-wide state directory and the project's ``.perfloop`` folder, both for their owner only."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from perfloop.errors import StorageError

#: what one run may need before it is worth starting: evidence, report, journal and audit lines
MIN_FREE_BYTES = 64 * 2**20
_PROBE_BYTES = 64 * 1024


def default_state_dir() -> Path:
    """The machine-wide state directory: ``PERFLOOP_STATE_DIR``, else ``/var/lib/perfloop`` as root, else ``$XDG_STATE_HOME/perfloop``."""
    configured = os.environ.get("PERFLOOP_STATE_DIR", "")
    if configured:
        return Path(configured).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/perfloop")
    return Path(os.environ.get("XDG_STATE_HOME", "") or Path.home() / ".local" / "state") / "perfloop"


def private_dir(path: Path) -> Path:
    """``path`` as a directory that only its owner may enter, made where it is missing; ``StorageError`` where it cannot be."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o077 and path.stat().st_uid == os.geteuid():
            path.chmod(0o700)
    except OSError as error:
        raise StorageError(
            f"cannot make the folder {path}",
            why=error.strerror or str(error),
            fix="free some space or correct its permissions, or set PERFLOOP_STATE_DIR to another folder",
        ) from error
    return path


def state_dir(root: Path | None = None) -> Path:
    """The state directory (``root`` where given), made 0700 where it is missing."""
    return private_dir(root or default_state_dir())


def check_free(path: Path, min_free_bytes: int = MIN_FREE_BYTES) -> None:
    """``StorageError`` unless ``path`` takes a written and fsynced probe and has ``min_free_bytes`` left; nothing of the probe stays."""
    probe = path / f".probe-{os.getpid()}"
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            written = os.write(descriptor, b"\0" * _PROBE_BYTES)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            probe.unlink(missing_ok=True)
        free_bytes = shutil.disk_usage(path).free
    except OSError as error:
        raise StorageError(f"cannot write to {path}", why=error.strerror or str(error), fix="free some space on that disk, or run in another folder") from error
    if written < _PROBE_BYTES or free_bytes < min_free_bytes:
        raise StorageError(
            f"not enough space under {path}",
            why=f"{free_bytes // 2**20} MiB are free, a run may need {min_free_bytes // 2**20} MiB",
            fix="free some space on that disk, or lower limits.disk_max_bytes and delete old runs",
        )
