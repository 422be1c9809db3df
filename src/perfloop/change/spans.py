"""Where a value stands in a JSON or YAML text: so that only its own characters are replaced. Pure: text in, positions out."""

from __future__ import annotations

import json
import re
from typing import Any

from perfloop.errors import ChangeRefused

_SPACE = re.compile(r"[ \t\r\n]*")
_INDEX = re.compile(r"^(.*?)((?:\[\d+\])*)$")
_DECODER = json.JSONDecoder()


def parts_of(key: str) -> list[str | int]:
    """``a.b[2].c`` as names and positions."""
    found: list[str | int] = []
    for part in key.split("."):
        match = _INDEX.match(part)
        assert match is not None
        if match[1] or not match[2]:
            found.append(match[1])
        found += [int(number) for number in re.findall(r"\d+", match[2])]
    return found


def in_json(text: str, key: str) -> tuple[int, int, Any] | None:
    """Start, end and value of a dotted key in a JSON document; None where there is no such key. The text must parse."""
    at = _skip(text, 0)
    for part in parts_of(key):
        entered = _enter(text, at, part)
        if entered is None:
            return None
        at = entered
    value, end = _DECODER.raw_decode(text, at)
    return at, end, value


def _enter(text: str, at: int, part: str | int) -> int | None:
    """The start of one member's value; of several members of one name the last, as parsers read it."""
    if text[at] != ("[" if isinstance(part, int) else "{"):
        return None
    found: int | None = None
    position, at = 0, _skip(text, at + 1)
    while text[at] not in "]}":
        name: str | int = position
        if isinstance(part, str):
            name, at = _DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)  # the colon
        if name == part:
            found = at
        at = _skip(text, _DECODER.raw_decode(text, at)[1])
        position += 1
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def in_yaml(text: str, key: str, file: str) -> tuple[int, int, Any, str] | None:
    """Start, end, value and style (``'``, ``"`` or empty) of a dotted key's scalar in a YAML text; None where there is no such key."""
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        for part in parts_of(key):
            if isinstance(part, int):
                items = node.value if isinstance(node, yaml.SequenceNode) else []
                node = items[part] if part < len(items) else None
            else:
                pairs = node.value if isinstance(node, yaml.MappingNode) else []
                node = next((value for name, value in reversed(pairs) if name.value == part), None)
        if node is None:
            return None
        if not isinstance(node, yaml.ScalarNode) or node.style in ("|", ">"):
            raise ChangeRefused(f"{key} in {file} is no single value", why="it is a block, a list or a mapping", fix="name a key with a value of one line")
        if text[node.start_mark.index] in "&!":  # an alias is its anchor here
            raise ChangeRefused(f"{key} in {file} has an anchor or a tag", why="changing it there could change other keys", fix="write the value out")
        value = yaml.SafeLoader("").construct_object(node)
        return node.start_mark.index, node.end_mark.index, value, node.style or ""
    except yaml.YAMLError as error:
        raise ChangeRefused(f"{file} cannot be parsed as YAML", why=" ".join(str(error).split())[:200], fix="correct the file") from None


def yaml_text(value: Any, style: str) -> str:
    """A scalar as YAML reads it back to the same value and type, quoted as it was where that is possible."""
    import yaml

    if not isinstance(value, str):
        return "true" if value is True else "false" if value is False else json.dumps(value)
    if style == "'" and "\n" not in value:
        return "'" + value.replace("'", "''") + "'"
    plain = not style and value == value.strip() and re.fullmatch(r"[A-Za-z0-9_./][A-Za-z0-9_./ -]*", value) is not None
    if plain and yaml.safe_load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)
