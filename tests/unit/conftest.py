from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from perfloop.model.result import RunResult

SAMPLE = Path(__file__).parent / "report" / "sample.py"


@pytest.fixture(scope="session")
def sample() -> RunResult:
    return runpy.run_path(str(SAMPLE))["sample_result"]()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder, the current one, with a state folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERFLOOP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("PERFLOOP_NO_PROGRESS", raising=False)
    monkeypatch.delenv("CI", raising=False)
    return tmp_path


@pytest.fixture
def stored(project: Path, sample: RunResult) -> RunResult:
    """The sample as the last run of the project."""
    from perfloop.store.runs import RunStore

    store = RunStore(project)
    result: RunResult = sample.with_(run_id=store.create("improve"))
    store.save_result(result)
    return result
