"""The size model and the hollow files."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from perfloop.twin import files, sizing
from perfloop.twin.sizing import KeyColumn, btree_shape


def test_sizes_are_those_of_really_built_indexes() -> None:
    """Pages and height of PostgreSQL 18: an int key of 100,000 and of 10 million rows, and of 4 values."""
    key = KeyColumn(4, 4, 100_000)
    assert btree_shape(100_000, [key], dedup=True) == sizing.Shape(276, 1)
    assert btree_shape(1_000_000, [KeyColumn(4, 4, 1_000_000)], dedup=False).pages == pytest.approx(2745, rel=0.01)
    assert btree_shape(100_000, [KeyColumn(4, 4, 4, common=(0.25,) * 4)], dedup=True).pages == pytest.approx(87, abs=3)


@pytest.mark.parametrize("rows", [0, 0.4, 1, 100])
def test_a_small_index_is_a_page_or_two(rows: float) -> None:
    assert btree_shape(rows, [KeyColumn(8, 8, rows)], dedup=True).pages <= 2


def test_more_rows_wider_keys_and_fewer_repeats_never_make_it_smaller() -> None:
    pages = [btree_shape(rows, [KeyColumn(8, 8, rows)], dedup=True).pages for rows in (10, 1_000, 100_000, 10_000_000)]
    assert pages == sorted(pages)
    widths = [btree_shape(100_000, [KeyColumn(width, 1, 100_000)], dedup=True).pages for width in (4, 16, 60, 120)]
    assert widths == sorted(widths)
    repeats = [btree_shape(100_000, [KeyColumn(8, 8, distinct)], dedup=True).pages for distinct in (10, 1_000, 20_000, 100_000)]
    assert repeats[1:] == sorted(repeats[1:])
    assert repeats[0] == pytest.approx(repeats[1], rel=0.03)  # long posting lists either way
    assert (
        btree_shape(100_000, [KeyColumn(4, 4, 100_000)], dedup=False).pages
        < btree_shape(100_000, [KeyColumn(4, 4, 100_000), KeyColumn(8, 8, 5, included=True)], dedup=False).pages
    )


def test_nulls_and_many_columns_are_no_error() -> None:
    assert btree_shape(1000, [KeyColumn(8, 8, 0, null_share=1.0)], dedup=True).pages >= 2
    assert btree_shape(1000, [KeyColumn(8, 8, 5)] * 32, dedup=True).pages >= 2


def test_files_over_a_gigabyte_are_segments_with_holes(tmp_path: Path) -> None:
    path = tmp_path / "16384"
    path.touch()
    files.set_size(path, 2 * files.SEGMENT_BYTES // files.PAGE_BYTES + 3)
    assert [(tmp_path / name).stat().st_size for name in ("16384", "16384.1", "16384.2")] == [files.SEGMENT_BYTES, files.SEGMENT_BYTES, 3 * files.PAGE_BYTES]
    assert sum(file.stat().st_blocks for file in tmp_path.iterdir()) * 512 < 1 << 20
    files.set_size(path, 1)
    assert path.stat().st_size == files.SEGMENT_BYTES


def test_a_height_is_written_into_a_b_tree_only(tmp_path: Path) -> None:
    path = tmp_path / "index"
    path.write_bytes(bytes(files.PAGE_BYTES))
    assert not files.set_height(path, 2)
    page = bytearray(files.PAGE_BYTES)
    struct.pack_into("<I", page, 24, files.BTREE_MAGIC)
    path.write_bytes(bytes(page))
    assert files.set_height(path, 2)
    assert path.stat().st_size == 4 * files.PAGE_BYTES
    assert struct.unpack_from("<4I", path.read_bytes(), 32) == (1, 2, 1, 2)
