"""When many series changed together, and how far each moved: ranks find the moment, robust quantiles measure the move. Nothing is assumed of their noise.

Rows are moments in order, columns are series. Ranks bound what one wild series, or one wild value, can do to the common moment. How far a series moved is
the largest distance between the same quantile before and after, in units of its spread before; quantiles instead of the maximum forgive single spikes,
and several of them see a shift, a widening and a burst alike.

Sources: A. N. Pettitt, "A non-parametric approach to the change-point problem" (1979); L. Pham et al., "BARO" (FSE 2024) for median and quartiles against
a contaminated reference.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

ROWS_MIN = 20
EDGE_SHARE = 0.08  # of the rows, at each end, where no onset is looked for
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
#: a level that moves by less than this share of itself is never many spreads away, however quiet it was before
FLOOR_SHARE = 0.02


class Shifts(NamedTuple):
    """One entry a series: ``size`` in spreads, ``sign`` of the move, ``before`` and ``after`` (the quantile that moved most), ``alone`` where that series alone changed most."""

    size: Array
    sign: Array
    before: Array
    after: Array
    alone: Array


def filled(values: Array) -> Array:
    """Gaps take the value before them (the first one: the value after); a series of gaps only becomes zeros."""
    out = np.array(values, dtype=np.float64)
    out[~np.isfinite(out)] = np.nan
    rows = np.arange(len(out))[:, None]
    last = np.maximum.accumulate(np.where(np.isnan(out), -1, rows), axis=0)
    first = np.argmax(~np.isnan(out), axis=0)
    known = np.take_along_axis(out, np.where(last < 0, first, last), axis=0)
    return np.nan_to_num(known, nan=0.0)


def ranked(values: Array) -> Array:
    """Ranks by column, ties sharing their mean, centred and of unit variance; a constant column is zeros."""
    out = np.zeros_like(values)
    for column in range(values.shape[1]):
        _, inverse, counts = np.unique(values[:, column], return_inverse=True, return_counts=True)
        out[:, column] = (np.cumsum(counts) - (counts - 1) / 2)[inverse.ravel()]
    out -= out.mean(axis=0)
    deviation = out.std(axis=0)
    scaled: Array = np.divide(out, deviation, out=np.zeros_like(out), where=deviation > 0)
    return scaled


def contrasts(values: Array) -> Array:
    """Row t−1: how much the mean ranks before and from row t differ, as the share (0..1) of each column's variance that a step at t explains."""
    n = len(values)
    sums = np.cumsum(ranked(values), axis=0)[:-1]
    t = np.arange(1, n, dtype=np.float64)[:, None]
    shares: Array = np.clip(sums * sums / (t * (n - t)), 0.0, 1.0)
    return shares


def common_onset(values: Array) -> int:
    """The row from which most of what changed is at its new level. ``ValueError`` for fewer than 20 rows."""
    n = len(values)
    if n < ROWS_MIN:
        raise ValueError(f"an onset needs {ROWS_MIN} rows")
    edge = max(3, int(n * EDGE_SHARE))
    shares = contrasts(values)[edge - 1 : n - edge]
    best = shares.argmax(axis=0)
    sizes = np.array([shifts(values[:, [column]], edge + int(at)).size[0] for column, at in enumerate(best)])
    votes = (np.log1p(sizes) * -np.log1p(-np.minimum(shares, 0.999))).sum(axis=1)
    return edge + int(votes.argmax())


def _wander(before: Array) -> Array:
    """How far the medians of the thirds of the reference lie apart: what drifts by itself will drift on."""
    thirds = np.array([np.median(part, axis=0) for part in np.array_split(before, 3)])
    return np.asarray(np.ptp(thirds, axis=0))


def shifts(values: Array, at: int) -> Shifts:
    """How far each column moved from the rows before ``at`` to those from it."""
    before, after = np.quantile(values[:at], QUANTILES, axis=0), np.quantile(values[at:], QUANTILES, axis=0)
    moves = after - before
    which = np.abs(moves).argmax(axis=0)
    columns = np.arange(values.shape[1])
    move = moves[which, columns]
    spread = np.maximum((before[4] - before[0]) / 2.563, (before[3] - before[1]) / 1.349)
    scale = np.maximum(np.maximum(spread, _wander(values[:at])), FLOOR_SHARE * np.abs(before[2]))
    whole = np.ptp(values, axis=0)
    scale = np.where(scale > 0, scale, FLOOR_SHARE * whole)  # it was zero throughout, and is not now
    size = np.divide(np.abs(move), scale, out=np.zeros_like(move), where=scale > 0)
    n, edge = len(values), max(3, int(len(values) * EDGE_SHARE))
    alone = contrasts(values)[edge - 1 : n - edge].argmax(axis=0) + edge if n > 2 * edge else np.full(values.shape[1], at)
    return Shifts(size, np.sign(move), before[which, columns], after[which, columns], alone.astype(np.float64))
