from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from perfloop.model.result import RunResult


@pytest.fixture(scope="session")
def sample() -> RunResult:
    """A realistic result of an improve run; see sample.py."""
    return runpy.run_path(str(Path(__file__).parent / "sample.py"))["sample_result"]()
