"""An unexpected error becomes a file with its details and one message; the traceback never lands on the terminal."""

from __future__ import annotations

import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path

from perfloop import __version__
from perfloop.errors import PerfloopError
from perfloop.host.secrets import redact

CRASH_MAX_BYTES = 200_000


def crashed(error: BaseException) -> PerfloopError:
    """Write ``.perfloop/crash-….txt`` (or, where that is not possible, into the temporary folder) and return what to tell."""
    text = "".join(traceback.format_exception(error))[-CRASH_MAX_BYTES:]
    head = f"perfloop {__version__}, Python {platform.python_version()}, {platform.platform()}\n{' '.join(sys.argv)}\n\n"
    where = _write(redact(head + text))
    return PerfloopError(
        f"perfloop failed in a way nobody foresaw: {type(error).__name__}: {redact(str(error))[:300]}",
        why=f"details are in {where}" if where else "the details could not be written to disk",
        fix="report it with that file; perfloop rollback shows whether a change is still open",
    )


def _write(text: str) -> Path | None:
    name = f"crash-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}.txt"
    for folder in (Path(".perfloop"), Path(tempfile.gettempdir())):
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            path = folder / name
            path.write_text(text, encoding="utf-8")
            path.chmod(0o600)
        except OSError:
            continue
        return path
    return None
