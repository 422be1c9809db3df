"""HypoPG of the distribution as a peer: its package is unpacked below ``.bench/`` and its functions are made in one session, nothing is installed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import psycopg


def load(connection: psycopg.Connection[Any], work: Path) -> str:
    """Make its functions (in schema ``hypo``) in this database, and return its version; CalledProcessError where the package cannot be had."""
    folder = work / "hypopg"
    if not list(folder.rglob("hypopg.so")):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "postgresql-15-hypopg"], cwd=folder, check=True, capture_output=True)
        (package,) = folder.glob("*.deb")
        subprocess.run(["dpkg", "-x", str(package), str(folder)], check=True)
    library = next(folder.rglob("hypopg.so"))
    script = sorted(path for path in folder.rglob("hypopg--*.sql") if path.name.count("--") == 1)[-1]
    text = (
        re.sub(r"^\\echo.*$", "", script.read_text(), flags=re.M)
        .replace("MODULE_PATHNAME", str(library))
        .replace("$libdir/hypopg", str(library))
        .replace("@extschema@", "hypo")
    )
    text = re.sub(r"^SELECT pg_catalog\.pg_extension_config_dump.*?;$", "", text, flags=re.M)
    connection.execute("drop schema if exists hypo cascade; create schema hypo; set search_path = hypo, public")
    connection.execute(text.encode())
    connection.execute("select hypopg_reset()")
    return script.stem.partition("--")[2]
