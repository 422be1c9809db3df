"""RCD's Sock Shop (github.com/azamikram/rcd): ``{service}-{cpu,mem}/{1..5}/{normal,anomalous}.csv``; the folder's name is the ground truth. Not part of this repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.rca_parts.synthetic import Array
from perfloop.observe.metrics_csv import read_tables


class Public(NamedTuple):
    """One case: rows of the normal recording, then of the anomalous one, which begins at ``at``."""

    name: str
    service: str
    fault: str
    names: tuple[str, ...]
    values: Array
    at: int


def cases(folder: Path) -> Iterator[Public]:
    """All cases below a folder, in order of their names."""
    for normal in sorted(folder.rglob("normal.csv")):
        service, _, fault = normal.parent.parent.name.rpartition("-")
        table = read_tables([normal, normal.parent / "anomalous.csv"])
        values = np.array([[np.nan if value is None else value for value in column] for column in table.columns]).T
        yield Public(f"{service}-{fault}/{normal.parent.name}", service, fault, table.names, values, table.parts[0])
