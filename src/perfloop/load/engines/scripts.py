"""Loads a file of journeys, and runs its ``setup`` and ``teardown``."""

from __future__ import annotations

import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from perfloop.errors import UsageError
from perfloop.load import script as api
from perfloop.load.engines.asking import Program
from perfloop.load.engines.recorder import Recorder

HOOKS = ("setup", "teardown")


def load_script(script: dict[str, Any]) -> ModuleType:
    """The file as a module; ``UsageError`` with its own line where it cannot be loaded."""
    path = Path(script["file"]).absolute()
    module = ModuleType("perfloop_journeys")
    module.__file__ = str(path)
    api.folder = path.parent
    sys.path.insert(0, str(path.parent))
    sys.modules[module.__name__] = module
    try:
        source = script["source"] or path.read_text()
        exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102 -- the user's own file, named by the user
    except OSError as error:
        raise UsageError(f"the journeys {path} cannot be read", why=error.strerror or str(error), fix="give the path of a Python file") from error
    except UsageError:
        raise
    except Exception as error:
        said = traceback.extract_tb(error.__traceback__)[-1]
        raise UsageError(
            f"the journeys {path} cannot be loaded", why=f"{type(error).__name__}: {error} (line {said.lineno})", fix="correct the file"
        ) from error
    return module


def programs_of(module: ModuleType, weights: dict[str, float], recorder: Recorder) -> list[Program]:
    """The journeys of a module; ``UsageError`` where there is none, or a weight names one that is not there."""
    functions = {name: value for name, value in vars(module).items() if inspect.iscoroutinefunction(value) and value.__module__ == module.__name__}
    marked = {name: value for name, value in functions.items() if hasattr(value, api.MARK)}
    if not marked:
        marked = {
            name: value for name, value in functions.items() if not name.startswith("_") and name not in HOOKS and len(inspect.signature(value).parameters) == 1
        }
    found = []
    names = set()
    for function in marked.values():
        name, weight, think_s = getattr(function, api.MARK, (function.__name__, 1.0, (0.0, 0.0)))
        names.add(name)
        weight = weights.get(name, weight)
        if weight > 0:
            found.append(Program(name, function, recorder.journey(name), weight, think_s))
    if unknown := set(weights) - names:
        raise UsageError(f"there is no journey {sorted(unknown)[0]}", why=f"the file has {', '.join(sorted(names)) or 'none'}", fix="correct the weights")
    if not found:
        raise UsageError(
            f"{module.__file__} has no journey", why="it needs an async def function of one argument", fix="async def visit(user): await user.get('/')"
        )
    return found


def hook(module: ModuleType, name: str) -> Any:
    """``setup`` or ``teardown``, or None."""
    function = getattr(module, name, None)
    return function if inspect.iscoroutinefunction(function) else None
