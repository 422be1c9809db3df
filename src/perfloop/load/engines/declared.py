"""Journeys that are declared, made into the same functions that people write: steps with variables, checks and extraction."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from perfloop.errors import UsageError
from perfloop.load.engines.asking import Function, Prepared, StepFailed
from perfloop.load.engines.crowd import World
from perfloop.load.engines.reply import Reply, ReplyError
from perfloop.load.engines.requests import Origin, build_templates
from perfloop.load.engines.users import User

BODY_FILE_MAX_BYTES = 64 * 2**20
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MISSING = object()


def declared(journey: dict[str, Any], world: World, origin: Origin, headers: Sequence[tuple[str, str]]) -> Function:
    """The function of a declared journey: its steps in order; the first that fails ends the iteration."""
    return in_order([_Step(step, world, origin, headers) for step in journey["steps"]])


class StepLike(Protocol):
    """A step that is ready: how it asks, what must be true of the answer, what is taken from it, and the pause after it."""

    think_s: tuple[float, float]
    checks: Any  # (name, function of the answer) each
    extracts: Any  # (variable, function of the answer) each

    def send(self, user: Any) -> Any:
        """Something to await."""
        ...


def in_order(steps: Sequence[StepLike]) -> Function:
    """The function of these steps; the first that fails ends the iteration."""

    async def run(user: User) -> None:
        for step in steps:
            reply = await step.send(user)
            if reply.error:
                raise StepFailed(reply.error)
            for name, check in step.checks:
                if not user.check(name, check(reply)):
                    raise StepFailed("check")
            for name, extract in step.extracts:
                user.vars[name] = extract(reply)
            if step.think_s[1]:
                await user.think(*step.think_s)

    return run


def body_of(step: dict[str, Any]) -> str | bytes:
    """The body of a step: its text, or the bytes of its file. ``UsageError`` where that cannot be read."""
    if not step["body_file"]:
        return str(step["body"])
    path = Path(step["body_file"])
    try:
        if path.stat().st_size > BODY_FILE_MAX_BYTES:
            raise UsageError(f"the body file {path} is larger than {BODY_FILE_MAX_BYTES // 2**20} MiB", fix="send a smaller one")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"the body file {path} cannot be read", why=error.strerror or str(error), fix="give a path relative to the configuration") from error


def varies(step: dict[str, Any]) -> bool:
    """True where a step has variables to be filled in."""
    return any(_VARIABLE.search(text) for text in (*step["paths"], step["body"], *(value for _, value in step["headers"])))


class _Step:
    """One step: static ones are bytes made before the load, others are filled in each time."""

    def __init__(self, step: dict[str, Any], world: World, origin: Origin, headers: Sequence[tuple[str, str]]) -> None:
        self._step, self._world, self._turn = step, world, 0
        self.think_s = tuple(step["think_s"])
        self.checks = [(check["name"] or check_name(check), make_check(check)) for check in step["checks"]]
        self.extracts = [(extract["name"], make_extract(extract)) for extract in step["extracts"]]
        self._static: list[Prepared] = []
        if not varies(step):
            templates = build_templates(origin, step["method"], step["paths"], (*headers, *step["headers"]), body_of(step))
            column = world.recorder.column(step["name"])
            self._static = [Prepared(column, template) for template in templates]
        content = body_of(step) if step["body_file"] else b""
        self._content = content if isinstance(content, bytes) else b""
        self._json = not any(name.lower() == "content-type" and "json" not in value.lower() for name, value in step["headers"])

    def send(self, user: User) -> Any:
        """The request of this step, as something to await."""
        self._turn += 1
        if self._static:
            return user.send(self._static[self._turn % len(self._static)], self._step["timeout_s"], self._step["redirects_max"])
        step, variables = self._step, user.vars
        path = fill(step["paths"][self._turn % len(step["paths"])], variables, _quoted)
        body = self._content or fill(step["body"], variables, _in_json if self._json else str).encode()
        given = {name: fill(value, variables, _one_line) for name, value in step["headers"]}
        prepared = self._world.prepare(step["method"], path, step["name"], given, body)
        return user.send(prepared, step["timeout_s"], step["redirects_max"])


def fill(text: str, variables: dict[str, Any], escape: Callable[[Any], str]) -> str:
    """A text with its variables; ``ReplyError`` names one that is not there."""

    def one(match: re.Match[str]) -> str:
        value = variables.get(match[1], _MISSING)
        if value is _MISSING:
            raise ReplyError(f"there is no variable {match[1]}: neither a column of a feed nor extracted before", "script")
        return escape(value)

    return _VARIABLE.sub(one, text) if "${" in text else text


def json_path(value: Any, path: str) -> Any:
    """What a path like ``items.0.id`` leads to; a marker where it leads nowhere. ``$`` is the whole."""
    for part in path.removeprefix("$").strip(".").split("."):
        if not part:
            continue
        if isinstance(value, list) and part.lstrip("-").isdigit() and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            return _MISSING
    return value


def make_check(check: dict[str, Any]) -> Callable[[Reply], bool]:
    """A check as a function of the response."""
    pattern = _pattern(check["matches"]) if check["matches"] is not None else None

    def ok(reply: Reply) -> bool:
        value = _value(reply, check["of"], check["path"])
        if value is _MISSING:
            return False
        text = value if isinstance(value, str) else json.dumps(value)
        return (
            (check["equals"] is None or text == check["equals"])
            and (check["contains"] is None or check["contains"] in text)
            and (pattern is None or pattern.search(text) is not None)
            and (check["at_most"] is None or (isinstance(value, int | float) and value <= check["at_most"]))
        )

    return ok


def make_extract(extract: dict[str, Any]) -> Callable[[Reply], Any]:
    """An extraction as a function of the response; ``ReplyError`` where there is nothing."""
    path, of = extract["path"], extract["of"]
    pattern = _pattern(path) if of == "body" else None

    def take(reply: Reply) -> Any:
        if pattern is not None:
            match = pattern.search(reply.text)
            value = _MISSING if match is None else match[1] if pattern.groups else match[0]
        else:
            value = _value(reply, of, path)
        if value is _MISSING:
            raise ReplyError(f"the response has no {of} {path} for the variable {extract['name']}")
        return value

    return take


def _value(reply: Reply, of: str, path: str) -> Any:
    match of:
        case "status":
            return reply.status
        case "size":
            return len(reply.body)
        case "body":
            return reply.text
        case "header":
            return reply.headers.get(path.lower(), _MISSING)
        case "cookie":
            found = [c.split(";")[0].partition("=")[2] for c in reply.cookies if c.split("=")[0].strip() == path]
            return found[-1] if found else _MISSING
    return json_path(reply.json(), path)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise UsageError(f"{text[:80]!r} is no regular expression", why=str(error), fix="correct it in the configuration") from error


def check_name(check: dict[str, Any]) -> str:
    """What a check without a name is called: what it demands."""
    of = f"{check['of']} {check['path']}".strip()
    parts = [f"{word.replace('_', ' ')} {check[word]}" for word in ("equals", "contains", "matches", "at_most") if check[word] is not None]
    return f"{of} {' and '.join(parts) or 'is there'}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _quoted(value: Any) -> str:
    from urllib.parse import quote

    return quote(_text(value), safe="")


def _in_json(value: Any) -> str:
    return json.dumps(_text(value))[1:-1]


def _one_line(value: Any) -> str:
    text = _text(value)
    if any(c in text for c in "\r\n\0"):
        raise ReplyError("a variable in a header has more than one line", "script")
    return text
