"""How big a b-tree would be, and how high: from rows, widths and distinct values, as nbtsort.c packs it.

Within a few per cent of really built indexes where the number of distinct keys is right; a correlated many-column key is the known exception.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

PAGE_BYTES = 8192
_FREE_OF_PAGE = PAGE_BYTES - 24 - 16  # page header, b-tree's special space
_LINE_POINTER = 4
_INNER_FILL = 0.70
_POSTING_MAX = 808  # nbtsort.c: a posting tuple of an index build is at most a tenth of a page, aligned, less its line pointer
_TID = 6
_STRIDES = (1, 37, 61, 89)  # prime to the number of sampled widths
_SPREAD_POINTS = 41
_ALMOST_ALL = 0.97
_POISSON_MAX = 60.0


@dataclass(frozen=True)
class KeyColumn:
    """One column of an index: ``width`` bytes on average, its alignment, and its statistics. ``distinct`` counts values, nulls apart.

    ``widths``: those of some of its values where they differ, evenly chosen: each entry is padded by itself, so the average width is not enough.
    """

    width: float
    align: int
    distinct: float
    null_share: float = 0.0
    common: tuple[float, ...] = ()  # shares of the most common values
    included: bool = False
    widths: tuple[float, ...] = ()


@dataclass(frozen=True)
class Shape:
    """What a b-tree comes to: pages with the metapage, and levels above the leaves."""

    pages: int
    height: int


def btree_shape(rows: float, columns: Sequence[KeyColumn], *, dedup: bool, fill: float = 0.9, distinct: float | None = None) -> Shape:
    """The size and height of a new b-tree over ``rows`` entries; ``dedup`` where equal keys may share one posting list, ``distinct`` the number of keys where it is known better than from each column alone."""
    if rows < 1:
        return Shape(1, 0)
    tuple_bytes = _tuple_bytes(columns)
    usable = _FREE_OF_PAGE - PAGE_BYTES * (1 - fill)
    if dedup and not any(column.included for column in columns):
        leaves = _leaves_with_postings(_groups(rows, columns, distinct), tuple_bytes, usable)
    else:
        leaves = math.ceil(rows / max(1, usable // (tuple_bytes + _LINE_POINTER)))
    pivot = _tuple_bytes([column for column in columns if not column.included])
    fanout = max(2, int((_FREE_OF_PAGE - PAGE_BYTES * (1 - _INNER_FILL)) // (pivot + _LINE_POINTER)))
    return _levels(leaves, fanout)


def _levels(leaves: int, fanout: int) -> Shape:
    pages, height, level = leaves, 0, leaves
    while level > 1:
        level = math.ceil(level / fanout)
        pages += level
        height += 1
    return Shape(pages + 1, height)


def height_of(pages: int, width: float = 8.0) -> int:
    """The height of an existing b-tree of so many pages, where it could not be read off the target; ``width`` is the key's data in bytes."""
    fanout = max(2, int((_FREE_OF_PAGE - PAGE_BYTES * (1 - _INNER_FILL)) // (8 + _aligned(width, 8) + _LINE_POINTER)))
    level, height = max(1, pages - 1), 0
    while level > 1:
        level = math.ceil(level / fanout)
        height += 1
    return height


def _tuple_bytes(columns: Sequence[KeyColumn]) -> float:
    """Header, null bitmap where there are nulls (weighted by how often), and aligned data: the mean over entries of sampled widths."""
    draws = max((len(column.widths) for column in columns), default=0) or 1
    whole = 0.0
    for draw in range(draws):
        data = 0.0
        for number, column in enumerate(columns):
            # a stride of its own for each column, so that wide values of one do not always meet wide ones of the other
            width = column.widths[draw * _STRIDES[number % len(_STRIDES)] % len(column.widths)] if column.widths else column.width
            data = _aligned(data, column.align) + width * (1 - column.null_share)
        whole += _aligned(data, 8)
    nulls = 1 - math.prod(1 - column.null_share for column in columns)
    return 8 + 8 * nulls + whole / draws


def _aligned(size: float, to: int) -> float:
    return math.ceil(round(size, 6) / to) * to


def distinct_bounds(rows: float, columns: Sequence[KeyColumn]) -> tuple[float, float]:
    """The fewest and the most distinct keys that these columns can have together: as many as the richest of them, and all combinations."""
    keys = [max(1.0, column.distinct + (1 if column.null_share else 0)) for column in columns if not column.included]
    return min(rows, max(keys, default=1.0)), _distinct(rows, columns)


def _distinct(rows: float, columns: Sequence[KeyColumn]) -> float:
    """Distinct keys, as if the columns were independent."""
    return max(1.0, min(rows, math.prod(max(1.0, column.distinct + (1 if column.null_share else 0)) for column in columns)))


def _groups(rows: float, columns: Sequence[KeyColumn], distinct: float | None = None) -> list[tuple[float, float]]:
    """(how many keys, rows of each): the common values and the nulls by their shares where there is one column, the rest evenly."""
    if len(columns) > 1:
        keys = max(1.0, min(rows, distinct or _distinct(rows, columns)))
        return [(keys, rows / keys)]
    column = columns[0]
    groups = [(1.0, share * rows) for share in (*column.common, column.null_share) if share * rows >= 1]
    rest = rows - sum(size for _, size in groups)
    keys = max(1.0, column.distinct - len(column.common))
    if rest >= 1:
        groups.append((min(keys, rest), rest / min(keys, rest)))
    return groups


def _leaves_with_postings(groups: Sequence[tuple[float, float]], tuple_bytes: float, usable: float) -> int:
    """Leaf pages where equal keys share posting lists. A page is closed when what is left, not counting its last posting list, is under the fill,
    or when the next one does not fit; then its last entry goes to the next page (_bt_buildadd)."""
    size = items = 0.0
    for keys, rows_each in groups:
        bytes_each, items_each = _group(rows_each, tuple_bytes)
        size += keys * bytes_each
        items += keys * items_each
    item = size / max(1.0, items)
    if item <= tuple_bytes + _LINE_POINTER + 1e-9:
        return math.ceil(items / max(1, usable // item))
    full = _posting_bytes(_postings_max(tuple_bytes), tuple_bytes)
    if item > _ALMOST_ALL * full:  # nearly all are full lists of one size
        return math.ceil(items / max(1, _FREE_OF_PAGE // full - 1))
    return math.ceil(size / min(usable - 24 + item / 2, _FREE_OF_PAGE - 1.5 * item))


def _group(rows: float, tuple_bytes: float) -> tuple[float, float]:
    """(bytes, items) of one key that so many rows have on average: rows fall on keys by chance, at least one on each."""
    if rows <= 1.0:
        return _posting(rows, tuple_bytes)
    counts = _chances(rows)
    sizes = [(share, _posting(count, tuple_bytes)) for count, share in counts]
    return sum(share * size for share, (size, _) in sizes), sum(share * items for share, (_, items) in sizes)


def _chances(mean: float) -> list[tuple[float, float]]:
    """(rows, share of the keys): Poisson without zero for small means, evenly spaced quantiles of the normal one for large ones."""
    if mean > _POISSON_MAX:
        deviation = math.sqrt(mean)
        points = [(number + 0.5) / _SPREAD_POINTS for number in range(_SPREAD_POINTS)]
        return [(max(1.0, round(mean + deviation * NormalDist().inv_cdf(point))), 1 / _SPREAD_POINTS) for point in points]
    rate = max(1e-6, mean - math.exp(-mean) * mean)
    for _ in range(50):  # mean = rate / (1 - e^-rate)
        rate = mean * -math.expm1(-rate)
        if rate < 1e-6:
            break
    chance, found = math.exp(-rate), []
    for count in range(1, int(mean + 10 * math.sqrt(mean) + 12)):
        chance *= rate / count
        found.append((float(count), chance))
    whole = sum(share for _, share in found)
    return [(count, share / whole) for count, share in found] if whole > 0 else [(1.0, 1.0)]


def _posting(rows: float, tuple_bytes: float) -> tuple[float, float]:
    """(bytes, items) of one key that exactly so many rows have."""
    if rows <= 1:
        return rows * (tuple_bytes + _LINE_POINTER), rows
    each = _postings_max(tuple_bytes)
    full, rest = divmod(rows, each)
    whole = _posting_bytes(each, tuple_bytes)
    if rest < 1e-9:
        return full * whole, full
    tail = tuple_bytes if rest <= 1 else _aligned(tuple_bytes + rest * _TID, 8)
    return full * whole + tail + _LINE_POINTER, full + 1


def _postings_max(tuple_bytes: float) -> int:
    return max(2, int((_POSTING_MAX - tuple_bytes) // _TID))


def _posting_bytes(rows: float, tuple_bytes: float) -> float:
    return _aligned(tuple_bytes + rows * _TID, 8) + _LINE_POINTER
