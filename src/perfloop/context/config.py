"""Reads the configuration: ``perfloop.toml``, or ``[tool.perfloop]`` in ``pyproject.toml``. Nothing has run when it refuses."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from perfloop.context.mistakes import first_mistake
from perfloop.context.starter import starter_config as starter_config
from perfloop.errors import StorageError, UsageError
from perfloop.host.files import read_limited
from perfloop.model.config import Config

FILE_NAME = "perfloop.toml"
SIZE_MAX_BYTES = 2**20


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration, the file it came from (empty: none, all defaults), and the folder its relative paths are relative to."""

    config: Config
    path: str
    base_dir: Path


def load_config(path: str | Path | None = None, cwd: str | Path | None = None) -> LoadedConfig:
    """The configuration at ``path``, else that in ``cwd``, else the defaults. Parents of ``cwd`` are not searched: they may be someone else's.

    Raises UsageError, naming the key, the value and the bound: no such file, no TOML, unknown keys (with a suggestion), wrong values, both files at once.
    """
    folder = Path(cwd or ".").absolute()
    if path:
        file = folder / Path(path).expanduser()
        table = _table(file)
        if file.name == "pyproject.toml":
            return _checked(_section(table, file), file, "tool.perfloop.")
        return _checked(table, file, "")
    own, project = folder / FILE_NAME, folder / "pyproject.toml"
    section = _section(_table(project), project) if project.is_file() and b"perfloop" in _bytes(project) else None
    if own.exists():
        if section is not None:
            raise UsageError("there are two configurations", f"{own} and [tool.perfloop] in {project}", "keep one of them")
        return _checked(_table(own), own, "")
    if section is not None:
        return _checked(section, project, "tool.perfloop.")
    return LoadedConfig(Config(), "", folder)


def config_schema() -> dict[str, Any]:
    """The JSON schema of ``perfloop.toml``, generated from the model."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "perfloop.toml", **Config.model_json_schema()}


def _bytes(file: Path) -> bytes:
    try:
        return read_limited(file, SIZE_MAX_BYTES)
    except StorageError as error:
        raise UsageError(f"the configuration {file} cannot be read", error.why, "perfloop init writes one" if not file.exists() else error.fix) from None


def _table(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_bytes(file).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is no TOML", f"byte {error.start} is not UTF-8", "save it as UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        # the message of the parser names the place; it never repeats values
        place = re.search(r"\(at (?P<place>[^)]*)\)", str(error))
        raise UsageError(f"{file} is no TOML", str(error)[:200], f"correct it at {place['place']}" if place else "correct it there") from None
    except RecursionError:
        raise UsageError(f"{file} is no TOML that can be read", "it is nested too deeply", "write it flat") from None


def _section(table: dict[str, Any], file: Path) -> dict[str, Any] | None:
    tool = table.get("tool")
    section = tool.get("perfloop") if isinstance(tool, dict) else None
    if section is not None and not isinstance(section, dict):
        raise UsageError(f"tool.perfloop in {file} is no table", "", "write [tool.perfloop.target] and so on")
    return section


def _checked(table: dict[str, Any] | None, file: Path, prefix: str) -> LoadedConfig:
    if table is None:
        raise UsageError(f"{file} has no [tool.perfloop]", "", "add it, or name a perfloop.toml")
    try:
        config = Config.model_validate_json(_json(table, file))
    except ValidationError as error:
        raise first_mistake(error, prefix, str(file)) from None
    return LoadedConfig(config, str(file), file.parent)


def _json(table: dict[str, Any], file: Path) -> bytes:
    """By way of JSON, where an enumeration is its text and an array is a tuple; TOML's dates have no place in a configuration."""
    import json

    def no(value: object) -> str:
        raise UsageError(f"{file} holds a date", f"{value} is no value of any key", 'write it as text, in "…"')

    return json.dumps(table, default=no).encode()
