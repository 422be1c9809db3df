"""Where the database bench works and what it may read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """``work``: a folder of the bench's own, kept from run to run; ``data``: public data that is not part of the repository."""

    work: Path
    data: Path
