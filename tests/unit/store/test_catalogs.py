from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from perfloop.errors import StorageError, UsageError
from perfloop.store import catalogs
from perfloop.store.catalogs import CatalogStore


@pytest.fixture(autouse=True)
def _long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogs, "KEPT_DAYS", 36_500)


def _stored(root: Path, stamp: str, owner: str, database: str = "0a1b2c3d") -> Path:
    store = CatalogStore(root)
    path = store.save(owner, database, {"planner": {}, "owner": owner})
    moved = path.with_name(f"{stamp}-{database}-{owner}.json.gz")
    path.rename(moved)
    return moved


def test_snapshots_are_private_files(tmp_path: Path) -> None:
    path = CatalogStore(tmp_path).save("query", "0a1b2c3d", {"planner": {"stats": ["a customer"]}})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert CatalogStore(tmp_path).load(CatalogStore(tmp_path).rows()[0])["planner"] == {"stats": ["a customer"]}


def test_a_snapshot_is_found_by_run_baseline_and_date(tmp_path: Path) -> None:
    for stamp, owner in (("20260101-120000", "20260101-115900-check-aaaa"), ("20260201-120000", "query"), ("20260301-120000", "20260301-115900-check-bbbb")):
        _stored(tmp_path, stamp, owner)
    _stored(tmp_path, "20260401-120000", "elsewhere", "ffffffff")
    store = CatalogStore(tmp_path)

    def found(wanted: str) -> str:
        return store.find(wanted, "0a1b2c3d", {"main": "20260101-115900-check-aaaa"}).owner

    assert found("20260301-115900-check-bbbb") == found("last") == found("2026-03-01") == found("2026-12-31") == "20260301-115900-check-bbbb"
    assert found("main") == found("baseline:main") == found("first") == found("2026-01-15") == "20260101-115900-check-aaaa"
    assert found("2026-02-01 12:00:00") == "query"
    assert store.find(str(store.rows()[0].path), "0a1b2c3d", {}).owner == "20260101-115900-check-aaaa"


@pytest.mark.parametrize("wanted", ["nothing", "2025-12-31", "baseline:other", "elsewhere", "../../etc/passwd"])
def test_what_is_not_there_is_said(tmp_path: Path, wanted: str) -> None:
    _stored(tmp_path, "20260101-120000", "query")
    _stored(tmp_path, "20260401-120000", "elsewhere", "ffffffff")
    with pytest.raises(UsageError) as error:
        CatalogStore(tmp_path).find(wanted, "0a1b2c3d", {})
    assert "query of 2026-01-01" in error.value.why or "2026-01-01" in error.value.why


def test_old_ones_go_but_those_of_baselines_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stored(tmp_path, "20200101-120000", "kept")
    _stored(tmp_path, "20200102-120000", "old")
    monkeypatch.setattr(catalogs, "KEPT_DAYS", 90)
    CatalogStore(tmp_path).retain(frozenset({"kept"}))
    assert [row.owner for row in CatalogStore(tmp_path).rows()] == ["kept"]


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    path = _stored(tmp_path, "20260101-120000", "query")
    path.write_bytes(os.urandom(100))
    with pytest.raises(StorageError, match="cannot be read"):
        CatalogStore(tmp_path).load(CatalogStore(tmp_path).rows()[0])
