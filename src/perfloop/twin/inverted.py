"""How big GIN and BRIN indexes would be, and what their metapages tell the planner. Layouts: ginblock.h, brin_page.h, brin_tuple.h (unchanged from 13 to 18)."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE_BYTES = 8192
_CONTENT_AT = 24
BRIN_MAGIC = 0xA8109CFA
_REVMAP_ITEMS = (PAGE_BYTES - 24 - 8) // 6
FILL_LIKELY = 0.7
PACKING = 0.6  # how much of the uncertainty of filling is taken for posting lists too
_GIN_INLINE_MAX = 2_712  # a longer posting list becomes a tree of its own (GinMaxItemSize)
_GIN_LEAF_BYTES = PAGE_BYTES - 24 - 6 - 8
_OFFSET_BITS = 11  # a row's place in its page, in the numbers that posting lists keep the differences of


@dataclass(frozen=True)
class Brin:
    """Pages in all, and the last of those that map ranges."""

    pages: int
    last_revmap: int


@dataclass(frozen=True)
class Gin:
    """Pages in all, those of the tree of entries, those of posting trees, and how many entries there are."""

    pages: int
    entry_pages: int
    data_pages: int
    entries: float


@dataclass(frozen=True)
class Elements:
    """What is known of the elements of a column: ``each`` on average in a row, ``distinct`` in all, shares of rows that hold the common ones, bytes of one."""

    each: float
    distinct: float
    common: tuple[float, ...] = ()
    width: float = 8.0


def brin_shape(heap_pages: int, pages_each: int, summary_bytes: Sequence[float]) -> Brin:
    """``summary_bytes``: what each column's summary takes (for minmax two values)."""
    ranges = max(1, math.ceil(heap_pages / max(1, pages_each)))
    item = _aligned(8 + sum(summary_bytes)) + 4
    data = math.ceil(ranges / max(1, int((PAGE_BYTES - 24 - 8) // item)))
    revmap = math.ceil(ranges / _REVMAP_ITEMS)
    return Brin(1 + revmap + data, revmap)


def summary_bytes(length: int, width: float) -> tuple[float, float, float]:
    """Bytes of the smallest and the greatest value of a range of pages: (fewest, likely, most). ``length``: -1 where values differ in length, ``width`` bytes on average."""
    if length > 0:
        return (2.0 * length,) * 3
    return width, 2.0 * (width + 1), 4.0 * (width + 1)


def gin_shape(rows: float, heap_pages: int, elements: Elements, fill: float) -> Gin:
    """``fill``: how full the pages of entries are."""
    postings = [share * rows for share in elements.common]
    rest = max(0.0, rows * elements.each - sum(postings))
    others = max(0.0, elements.distinct - len(postings))
    groups = [(1.0, count) for count in postings if count >= 1]
    if rest >= 1:
        others = min(max(others, 1.0), rest)
        groups.append((others, rest / others))
    entry_bytes, data_pages, entries = 0.0, 0, 0.0
    for keys, count in groups:
        entries += keys
        size = 8 + (count - 1) * _delta_bytes(count, heap_pages) * (1 + PACKING * (FILL_LIKELY - fill))
        if size > _GIN_INLINE_MAX:
            leaves = math.ceil(size / _GIN_LEAF_BYTES)
            data_pages += int(keys * (leaves + (1 if leaves > 1 else 0)))
            size = 0.0
        entry_bytes += keys * (_aligned(8 + elements.width + size) + 4)
    leaves = math.ceil(entry_bytes / ((PAGE_BYTES - 24 - 8) * fill))
    inner = math.ceil(leaves * (_aligned(8 + elements.width) + 4) / ((PAGE_BYTES - 32) * fill)) if leaves > 1 else 0
    entry_pages = max(1, leaves + inner)
    return Gin(1 + entry_pages + data_pages, entry_pages, data_pages, entries)


def _delta_bytes(count: float, heap_pages: int) -> float:
    """Bytes of one posting after the first, on average: the distance to the one before, 7 bits a byte. In one page that is one byte; to a later page two, from the eighth on three."""
    each = count / max(1, heap_pages)  # postings in a page
    if each >= 1:
        return 1 + 1 / each
    far, farther = (math.pow(1 - each, 2 ** (bits - _OFFSET_BITS)) for bits in (14, 21))  # the shares of gaps that take one byte more, and two
    return 2 + far + farther


def write_brin(path: Path, found: Brin) -> bool:
    """Into the metapage of a new, empty BRIN index; False where it is none."""
    with path.open("r+b") as file:
        page = file.read(PAGE_BYTES)
        if len(page) != PAGE_BYTES or struct.unpack_from("<I", page, _CONTENT_AT)[0] != BRIN_MAGIC:
            return False
        file.seek(_CONTENT_AT + 12)
        file.write(struct.pack("<I", found.last_revmap))
    return True


def pages_each(path: Path) -> int:
    """The ``pages_per_range`` of a BRIN index."""
    with path.open("rb") as file:
        file.seek(_CONTENT_AT + 8)
        return int(struct.unpack("<I", file.read(4))[0])


def write_gin(path: Path, found: Gin) -> bool:
    """Into the metapage of a new, empty GIN index."""
    with path.open("r+b") as file:
        if len(file.read(PAGE_BYTES)) != PAGE_BYTES:
            return False
        file.seek(_CONTENT_AT + 24)
        file.write(struct.pack("<IIIxxxxq", found.pages, found.entry_pages, found.data_pages, int(found.entries)))
    return True


def _aligned(size: float) -> float:
    return math.ceil(round(size, 6) / 8) * 8
