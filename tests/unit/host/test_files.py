"""Files, whole or not at all."""

from __future__ import annotations

import resource
import stat
from pathlib import Path

import pytest

from perfloop.errors import StorageError
from perfloop.host import files


def test_write_and_replace_keep_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "a"
    files.write_atomic(path, b"one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    files.write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    files.write_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        files.write_atomic(tmp_path / "no" / "a", b"x")
    assert caught.value.why
    assert caught.value.fix


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space") as caught:
        full.write(b"x")
    error = files.storage_error(caught.value, "/some/where/run.json", "write")
    assert error.exit_code == 3
    assert "disk is full" in error.what
    assert "free some space" in error.fix


def test_the_old_content_survives_a_failed_write(tmp_path: Path) -> None:
    import signal

    path = tmp_path / "a"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StorageError):
            files.write_atomic(path, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_read_limited(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert files.read_limited(path, 5) == b"12345"
    for bad, limit in ((path, 4), (tmp_path, 10), (tmp_path / "none", 10)):
        with pytest.raises(StorageError) as caught:
            files.read_limited(bad, limit)
        assert caught.value.fix


def test_free_bytes(tmp_path: Path) -> None:
    assert files.free_bytes(tmp_path / "not" / "yet") > 0
