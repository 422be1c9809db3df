"""What is wrong in a configuration, in words of its own: the key, the value, the bound, and what was probably meant."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from perfloop.errors import UsageError
from perfloop.host.secrets import redact
from perfloop.model.config import Config

_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
    "multiple_of": ("multiple_of", "a multiple of"),
}
_TYPES = (
    ("int", "a whole number"),
    ("float", "a number"),
    ("finite_number", "a number"),
    ("bool", "true or false"),
    ("string", "text, in quotes"),
    ("tuple", "a list, in [ ]"),
    ("list", "a list, in [ ]"),
    ("dict", "a table"),
    ("model", "a table"),
    ("none_required", "left out"),
)
_SECRET_KEYS = ("postgres", "postgres_admin", "webhook_secret", "headers")


def first_mistake(error: ValidationError, prefix: str, file: str) -> UsageError:
    """The message for the first mistake, unknown keys before wrong values; the others are counted in the hint."""
    details = error.errors(include_url=False)
    details.sort(key=lambda entry: entry["type"] != "extra_forbidden")
    detail = details[0]
    path = tuple(detail["loc"])
    key = prefix + dotted(path)
    hint = f"{len(details) - 1} more mistakes follow" if len(details) > 2 else "one more mistake follows" if len(details) == 2 else ""
    if detail["type"] == "extra_forbidden":
        near = suggestion(path)
        known = ", ".join(sorted(_fields(path[:-1])))
        fix = f"did you mean {prefix}{near}" if near else f"remove it; the keys there are {known}"
        return UsageError(f"unknown key {key}", f"in {file}", fix, hint)
    what, fix = _wrong(detail, key, path)
    return UsageError(what, f"in {file}", fix, hint)


def dotted(path: tuple[int | str, ...]) -> str:
    """A place in the configuration as a person writes it: ``journeys[2].weight``."""
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _wrong(detail: Mapping[str, Any], key: str, path: tuple[int | str, ...]) -> tuple[str, str]:
    kind, context = str(detail["type"]), detail.get("ctx") or {}
    secret = any(part in _SECRET_KEYS for part in path)
    value = "(not shown)" if secret else _shown(detail.get("input"))
    if kind == "missing":
        return f"{key} is missing", f"add {path[-1]} = …"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"{key} is {value}; it must be {words} {context.get(name)}", f"set {key} to {words} {context.get(name)}"
    if kind in ("enum", "literal_error"):
        expected = str(context.get("expected", "")).replace("'", "")
        near = difflib.get_close_matches(str(detail.get("input")), expected.replace(" or ", ", ").split(", "), 1)
        return f"{key} is {value}; it must be {expected}", f'did you mean "{near[0]}"' if near else "write one of these"
    if kind == "string_pattern_mismatch":
        if secret:
            return f"{key} must be a reference, not the credential itself", "write env:NAME (an environment variable) or file:PATH"
        return f"{key} is {value}, which it cannot be", "use small letters, digits and hyphens, a letter first"
    if kind == "value_error":
        return f"{key or 'the configuration'}: {context.get('error', 'the value is wrong')}", "correct it there"
    expected = next((words for name, words in _TYPES if kind.startswith(name)), "another value")
    return f"{key} is {value}; it must be {expected}", f"write {expected}"


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    text = redact(str(value))
    text = text if len(text) <= 80 else text[:77] + "…"
    return f'"{text}"' if isinstance(value, str) else text.lower() if isinstance(value, bool) else text


def suggestion(path: tuple[int | str, ...]) -> str:
    """The known key that an unknown one was probably meant to be: a sibling, else the same name elsewhere; empty where none is near."""
    *parents, last = path
    near = difflib.get_close_matches(str(last), sorted(_fields(tuple(parents))), 1, 0.6)
    if near:
        return dotted((*parents, near[0]))
    everywhere = {place[-1]: place for place in _all_keys(Config, ())}
    near = difflib.get_close_matches(str(last), sorted(everywhere), 1, 0.85)
    return dotted(tuple(part for part in everywhere[near[0]] if part != "*")) if near else ""


def _fields(path: tuple[int | str, ...]) -> dict[str, Any]:
    """Keys that a table of the configuration may have."""
    model: type[BaseModel] | None = Config
    for part in path:
        if model is None:
            return {}
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        if field is not None:
            model = _model_in(field.annotation)
        # else: a key of a mapping (rules.NAME), whose values are of the model we already hold
    return dict(model.model_fields) if model is not None else {}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The table type inside an annotation (optional, a list of it, a mapping to it); None for a plain value."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias) and issubclass(annotation, BaseModel):
        return annotation
    for part in typing.get_args(annotation):
        found = _model_in(part)
        if found is not None:
            return found
    return None


def _all_keys(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        yield (*path, name)
        inner = _model_in(field.annotation)
        if inner is not None:
            yield from _all_keys(inner, (*path, name))
