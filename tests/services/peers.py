"""Tools of others that tests run beside us, in a venv of their own below ``.bench``; ``make test`` installs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".bench" / "peers"


def peers() -> Path:
    """The folder of their programs, locust and k6 among them."""
    if not (PEERS / ".ready").exists():
        subprocess.run(["make", "-s", "-C", str(ROOT), ".bench/peers/.ready", f"PYTHON={sys.executable}"], check=True, timeout=240)
    return PEERS / "bin"
