"""Builds the shim (with the machine's C compiler) and speaks to it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
OFF, COUNT, KILL, TORN, FAIL, CLOCK = range(6)
MODES = {"count": COUNT, "kill": KILL, "torn": TORN, "fail": FAIL, "clock": CLOCK}


def built() -> Path:
    """The shared library, compiled once for each version of its source."""
    text = SOURCE.read_bytes()
    library = Path(tempfile.gettempdir()) / f"perfloop-shim-{os.getuid()}-{hashlib.sha256(text).hexdigest()[:16]}.so"
    if not library.exists():
        made = library.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(made), str(SOURCE), "-ldl"], check=True)
        made.replace(library)
    return library


def loaded() -> ctypes.CDLL:
    """The library that was preloaded into this process."""
    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    library.shim_arm.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    library.shim_calls.restype = ctypes.c_long
    return library
