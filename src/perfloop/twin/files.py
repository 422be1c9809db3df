"""Gives the twin's empty relations the sizes and b-tree heights of the target's, without their data.

The planner asks the file system how big a relation is, so its file is extended with a hole; and it reads a b-tree's height from the
metapage. Below the root there is one page a level down to an empty leaf, so that the planner's look at an index's real ends finds a
valid, empty tree. Layout: nbtree.h and bufpage.h of PostgreSQL (unchanged from 13 to 18).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

PAGE_BYTES = 8192
SEGMENT_BYTES = 2**30
SEGMENTS_MAX = 32_768
BTREE_MAGIC = 0x053162
_META_AT = 24  # after the page header
_SPECIAL_BYTES = 16
_LEAF, _ROOT = 1, 2
_ALT_TID = 0x2000


def set_size(path: Path, pages: int) -> None:
    """Extend a relation's file, and its further segments of 1 GiB, to so many pages of 8 KiB; it is never made shorter."""
    left = pages * PAGE_BYTES
    for segment in range(SEGMENTS_MAX):
        size = min(left, SEGMENT_BYTES)
        name = path if segment == 0 else path.with_name(f"{path.name}.{segment}")
        owner = path.stat()
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if segment and os.geteuid() == 0:
                os.fchown(file, owner.st_uid, owner.st_gid)
            if os.fstat(file).st_size < size:
                os.truncate(file, size)
        finally:
            os.close(file)
        left -= size
        if left <= 0:
            return


def size_of(path: Path) -> int:
    """Pages of a relation's file and its further segments."""
    total = 0
    for segment in range(SEGMENTS_MAX):
        try:
            total += (path if segment == 0 else path.with_name(f"{path.name}.{segment}")).stat().st_size
        except FileNotFoundError:
            break
    return total // PAGE_BYTES


def empty(path: Path) -> None:
    """Take all pages away, further segments too."""
    for segment in range(1, SEGMENTS_MAX):
        try:
            path.with_name(f"{path.name}.{segment}").unlink()
        except FileNotFoundError:
            break
    os.truncate(path, 0)


def set_shape(path: Path, pages: int, height: int | None) -> bool:
    """The size of an index, and its height where it is a b-tree (``height`` None: it is none); False where this is no b-tree that we know."""
    known = height is None or pages <= 1 or set_height(path, max(0, min(height, pages - 2)))
    set_size(path, pages)
    return known


def set_height(path: Path, height: int) -> bool:
    """Write a chain of ``height`` inner pages and one empty leaf, and point the metapage at it; False where this is no b-tree that we know."""
    with path.open("r+b") as file:
        meta = bytearray(file.read(PAGE_BYTES))
        if len(meta) != PAGE_BYTES or struct.unpack_from("<I", meta, _META_AT)[0] != BTREE_MAGIC:
            return False
        for block in range(1, height + 2):
            level = height + 1 - block
            file.seek(block * PAGE_BYTES)
            file.write(_page(level, root=block == 1, child=block + 1))
        struct.pack_into("<4I", meta, _META_AT + 8, 1, height, 1, height)  # root, level, fast root, fast level
        file.seek(0)
        file.write(meta)
    return True


def _page(level: int, root: bool, child: int) -> bytes:
    """One b-tree page, the only one of its level: an empty leaf, or an inner page with one downlink (minus infinity) to ``child``."""
    page = bytearray(PAGE_BYTES)
    special = PAGE_BYTES - _SPECIAL_BYTES
    lower, upper = _META_AT, special
    if level:
        upper -= 8
        struct.pack_into("<HHHH", page, upper, child >> 16, child & 0xFFFF, 0, _ALT_TID | 8)  # block, 0 key attributes, size 8
        struct.pack_into("<I", page, lower, upper | 1 << 15 | 8 << 17)  # line pointer: offset, LP_NORMAL, length
        lower += 4
    struct.pack_into("<QHHHHHHI", page, 0, 0, 0, 0, lower, upper, special, PAGE_BYTES | 4, 0)
    struct.pack_into("<IIIHH", page, special, 0, 0, level, (_ROOT if root else 0) | (0 if level else _LEAF), 0)
    return bytes(page)
