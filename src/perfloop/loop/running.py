"""``perfloop run -- CMD``: the command itself, with the agent's folder first in PYTHONPATH."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from perfloop.errors import CannotMeasure, UsageError
from perfloop.host.command import replace_process
from perfloop.model.requests import RunRequest


def run(request: RunRequest) -> NoReturn:
    """Replace this process by the command; ``UsageError`` where there is no such program."""
    program = shutil.which(request.command[0])
    if program is None:
        raise UsageError(f"there is no program {request.command[0]!r}", why="it is neither a file nor on PATH", fix="perfloop run -- python app.py")
    replace_process(program, request.command, environment(os.environ.get("PYTHONPATH", "")))


def environment(pythonpath: str) -> dict[str, str]:
    """The variables to add: the agent's folder before whatever PYTHONPATH held."""
    folder = str(agent_folder())
    others = [part for part in pythonpath.split(os.pathsep) if part and part != folder]
    return {"PYTHONPATH": os.pathsep.join([folder, *others])}


def agent_folder() -> Path:
    """The folder whose ``sitecustomize`` starts the agent."""
    spec = find_spec("perfloop_agent")
    if spec is None or not spec.origin:
        raise CannotMeasure("the in-process agent is not installed", why="the package perfloop_agent is missing", fix="pip install --force-reinstall perfloop")
    return Path(spec.origin).parent / "boot"
