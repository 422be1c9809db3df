"""The two best published rankers on these data, as their papers and code define them: a score per metric from a known onset, largest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perfloop.stats.onset import filled

Array = np.ndarray[Any, np.dtype[np.float64]]


MEGABYTE = 1e6  # RCAEval's preprocessing: memory in MB, which counts where a spread of 0 is taken as 1


def prepared(values: Array, names: Sequence[str]) -> Array:
    """As RCAEval prepares these data: gaps filled forward, then with 0; memory in MB."""
    scale = np.array([MEGABYTE if name.endswith("_mem") else 1.0 for name in names])
    return filled(values) / scale


def n_sigma(values: Array, at: int) -> list[int]:
    """N-Sigma: the largest distance above the mean before, in standard deviations before (0: taken as 1)."""
    before, after = values[:at], values[at:]
    scale = before.std(axis=0)
    return _ranked((after - before.mean(axis=0)) / np.where(scale > 0, scale, 1.0), before, after)


def baro(values: Array, at: int) -> list[int]:
    """BARO's RobustScorer: the largest distance above the median before, in interquartile ranges before (0: taken as 1)."""
    before, after = values[:at], values[at:]
    scale = np.quantile(before, 0.75, axis=0) - np.quantile(before, 0.25, axis=0)
    return _ranked((after - np.median(before, axis=0)) / np.where(scale > 0, scale, 1.0), before, after)


def _ranked(scores: Array, before: Array, after: Array) -> list[int]:
    """Columns by their largest score; those constant on either side are dropped, as their preprocessing does."""
    usable = (np.ptp(before, axis=0) > 0) & (np.ptp(after, axis=0) > 0)
    return [int(column) for column in np.argsort(-scores.max(axis=0), kind="stable") if usable[column]]
