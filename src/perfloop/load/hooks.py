"""``setup`` and ``teardown`` of a file of journeys: once around everything that is sent."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from perfloop.errors import UsageError
from perfloop.load.engines import http
from perfloop.model.journey import Workload


@contextmanager
def prepared(workload: Workload, engine: ModuleType = http) -> Iterator[Workload]:
    """The workload after its script's ``setup``, with what that returned; ``teardown`` runs at the end, whatever happened. Other workloads unchanged.

    Around one or many windows, shards or machines: setup runs once for all of them.
    """
    hooks = hooks_of(workload)
    script = workload.script
    try:
        if script is not None and "setup" in hooks:
            workload = workload.with_(script=script.with_(data=engine.run_hook(workload, "setup")))
        yield workload
    finally:
        if "teardown" in hooks:
            engine.run_hook(workload, "teardown")


def hooks_of(workload: Workload) -> set[str]:
    """Which of ``setup`` and ``teardown`` the workload's script has; ``UsageError`` where it cannot be read."""
    if workload.script is None or workload.script.tool:
        return set()
    try:
        source = workload.script.source or Path(workload.script.file).read_text()
        tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError) as error:
        raise UsageError(f"the journeys {workload.script.file} cannot be read", why=str(error), fix="give the path of a Python file") from error
    return {node.name for node in tree.body if isinstance(node, ast.AsyncFunctionDef)} & {"setup", "teardown"}
