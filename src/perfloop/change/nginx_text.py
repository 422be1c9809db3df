"""One directive of an nginx configuration by its path (``http.gzip``, ``http.server[1].keepalive_timeout``): read, set, inserted. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from perfloop.change.spans import parts_of
from perfloop.errors import ChangeRefused

_TOKEN = re.compile(r"""\s+|\#[^\n]*|[{};]|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?:\$\{|\\.|[^\s;{}"'\\])(?:\$\{[^}]*\}|\\.|[^\s;{}\\])*""", re.S)
_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


class Statement(NamedTuple):
    """A directive: its words, the span of its arguments, and, for a block, the span inside its braces."""

    name: str
    start: int
    arguments: tuple[int, int]
    inside: tuple[int, int] | None


def get(data: bytes, file: str, key: str) -> str | None:
    """The arguments of a directive as they stand in the file, None where it is not set there; ``ChangeRefused`` where the path leads nowhere or the directive is repeated."""
    text = data.decode(errors="replace")
    found = _find(text, file, key)[0]
    return None if found is None else text[slice(*found.arguments)].strip()


def replaced(data: bytes, file: str, key: str, value: Any) -> bytes:
    """The file with the directive set (a line of its own at the block's start where it was absent), or taken out for None."""
    text = data.decode(errors="surrogateescape")
    found, (start, _), depth = _find(text, file, key)
    name = str(parts_of(key)[-1])
    if value is not None and re.search(r"[;{}\n\r#]", str(value)):
        raise ChangeRefused(f"{value!r} cannot be the value of {name}", why="it would end the directive or begin another", fix="write the arguments only")
    if found is not None and value is None:
        end = text.index(";", found.arguments[1]) + 1
        line = text.rfind("\n", 0, found.start) + 1
        whole = text[line : found.start].strip() == "" and text[end : end + 1] == "\n"
        text = text[: line if whole else found.start] + text[end + 1 if whole else end :]
    elif found is not None:
        text = text[: found.arguments[0]] + str(value) + text[found.arguments[1] :]
    elif value is not None:
        lead = "\n" if depth else ""
        tail = "" if depth and text[start : start + 1] in ("\n", "\r") else "\n"
        text = text[:start] + f"{lead}{'    ' * depth}{name} {value};{tail}" + text[start:]
    return text.encode(errors="surrogateescape")


def _find(text: str, file: str, key: str) -> tuple[Statement | None, tuple[int, int], int]:
    """The directive (None where absent), the span of the block it belongs into, and how deep that is."""
    span, depth = (0, len(text)), 0
    parts = parts_of(key)
    while len(parts) > 1:
        name, position = parts.pop(0), 0
        if parts and isinstance(parts[0], int):
            position = int(parts.pop(0))
        blocks = [found for found in _statements(text, span, file) if found.name == name and found.inside]
        if position >= len(blocks) or not parts:
            raise ChangeRefused(f"{file} has no block {name}[{position}] for {key}", why="the path leads nowhere", fix="name blocks as http.server[0]")
        inside = blocks[position].inside
        assert inside is not None
        span, depth = inside, depth + 1
    if not _NAME.match(str(parts[0])):
        raise ChangeRefused(f"{parts[0]!r} is no name of a directive", fix="write it in lower case, as nginx does")
    same = [found for found in _statements(text, span, file) if found.name == parts[0]]
    if len(same) > 1 or (same and same[0].inside):
        raise ChangeRefused(f"{key} in {file} is no single directive", why="it is repeated or a block", fix="change it by hand")
    return (same[0] if same else None), span, depth


def _statements(text: str, span: tuple[int, int], file: str) -> Iterator[Statement]:
    at, end = span
    name, start, first, last = "", 0, 0, 0
    while at < end:
        kind, begin, at = _token(text, at, file)
        if kind == ";":
            if name:
                yield Statement(name, start, (first or last, last), None)
            name, first = "", 0
        elif kind == "{":
            close = _closing(text, at, end, file)
            yield Statement(name, start, (first or last, last), (at, close))
            at, name, first = close + 1, "", 0
        elif kind == "}":
            raise ChangeRefused(f"{file} cannot be parsed as nginx configuration", why=f"an unexpected brace at character {begin}", fix="run nginx -t")
        elif kind == "word":
            if not name:
                name, start = text[begin:at], begin
            elif not first:
                first = begin
            last = at


def _closing(text: str, at: int, end: int, file: str) -> int:
    depth = 1
    while at < end:
        kind, begin, at = _token(text, at, file)
        depth += (kind == "{") - (kind == "}")
        if not depth:
            return begin
    raise ChangeRefused(f"{file} cannot be parsed as nginx configuration", why="a block is not closed", fix="run nginx -t")


def _token(text: str, at: int, file: str) -> tuple[str, int, int]:
    match = _TOKEN.match(text, at)
    if match is None:
        raise ChangeRefused(f"{file} cannot be parsed as nginx configuration", why=f"character {at} belongs to nothing", fix="run nginx -t")
    first = match[0][0]
    kind = first if first in "{};" else "" if first.isspace() or first == "#" else "word"
    return kind, match.start(), match.end()
