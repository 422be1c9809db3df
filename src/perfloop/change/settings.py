"""One key of a configuration file: read and replaced in the text, everything else kept as it stands. Pure: bytes in, bytes out.

TOML, YAML and JSON by dotted key (``pool.size``, ``servers[0].port``); INI by ``section.key``; env files and Java properties by the whole name.
"""

from __future__ import annotations

import json
import re
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from perfloop.change import spans
from perfloop.errors import ChangeRefused

Value = bool | int | float | str
_SECTION = re.compile(r"^\s*\[([^\]]+)\]\s*$")


_ENDINGS = {"toml": "toml", "json": "json", "yaml": "yaml", "yml": "yaml", "properties": "properties"}


def format_of(file: str) -> str:
    """``toml``, ``json``, ``yaml``, ``properties`` or ``ini`` (KEY=VALUE, with or without sections; env files too), by the file's ending."""
    return _ENDINGS.get(file.rsplit(".", 1)[-1].lower(), "ini")


def get(data: bytes, file: str, key: str) -> Value:
    """The value of the dotted ``key``; ``ChangeRefused`` where it is absent, no single value, or the file cannot be parsed."""
    text = _text(data, file)
    kind = format_of(file)
    if kind in ("ini", "properties"):
        return _ini_value(_ini_find(text, file, key)[1]["value"])
    if kind == "toml":
        table, last = _descend(_parsed(text, file), file, key)
        value = table[last]
        value = value.unwrap() if hasattr(value, "unwrap") else value
    else:
        value = _span(text, file, key)[2]
    if not isinstance(value, bool | int | float | str):
        raise ChangeRefused(f"{key} in {file} is no single value", why=f"it is a {type(value).__name__}", fix="name a key with a number, a text, true or false")
    return value


def replaced(data: bytes, file: str, key: str, value: Value) -> bytes:
    """The file with ``key`` set to ``value``: comments, order, indentation and every other character stay."""
    text = _text(data, file)
    kind = format_of(file)
    if kind in ("ini", "properties"):
        return _ini_replaced(text, file, key, value).encode()
    if kind == "toml":
        document = _parsed(text, file)
        table, last = _descend(document, file, key)
        table[last] = value
        return tomlkit.dumps(document).encode()
    start, end, _, style = _span(text, file, key)
    shown = spans.yaml_text(value, style) if kind == "yaml" else json.dumps(value, ensure_ascii=False)
    after = (text[:start] + shown + text[end:]).encode()
    if get(after, file, key) != value:
        raise ChangeRefused(f"{key} in {file} cannot be set to {value!r}", why="read back, it would be another value", fix="set it by hand")
    return after


def like(old: Value, new: Any, key: str) -> Value:
    """``new`` in the type of ``old`` (8.0 becomes 8 where an integer stands); ``ChangeRefused`` where it does not fit."""
    if isinstance(old, bool) or isinstance(new, bool):
        if isinstance(old, bool) and isinstance(new, bool):
            return new
    elif isinstance(old, int) and isinstance(new, int | float) and float(new).is_integer():
        return int(new)
    elif isinstance(old, float) and isinstance(new, int | float):
        return float(new)
    elif isinstance(old, str) and isinstance(new, str):
        return new
    raise ChangeRefused(f"{new!r} does not fit {key}", why=f"its value now is {old!r}, a {type(old).__name__}", fix="propose a value of the same type")


def _text(data: bytes, file: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ChangeRefused(f"{file} is no UTF-8 text", why=str(error), fix="name a TOML, JSON or KEY=VALUE file") from None


def _parsed(text: str, file: str) -> Any:
    try:
        return tomlkit.parse(text)
    except (TOMLKitError, ValueError) as error:
        raise ChangeRefused(f"{file} cannot be parsed as TOML", why=str(error), fix="correct the file") from None


def _span(text: str, file: str, key: str) -> tuple[int, int, Any, str]:
    """Where the value of a key stands in JSON or YAML: start, end, value, quotation."""
    if format_of(file) == "yaml":
        found = spans.in_yaml(text, key, file)
    else:
        try:
            json.loads(text)
        except ValueError as error:
            raise ChangeRefused(f"{file} cannot be parsed as JSON", why=str(error), fix="correct the file") from None
        inside = spans.in_json(text, key)
        found = (*inside, "") if inside else None
    if found is None:
        raise _absent(file, key)
    return found


def _absent(file: str, key: str) -> ChangeRefused:
    return ChangeRefused(f"{file} has no key {key}", why="its value now is unknown", fix=f"write {key} into {file} with the value it has now")


def _descend(document: Any, file: str, key: str) -> tuple[Any, str]:
    *path, last = key.split(".")
    table = document
    for part in path:
        table = table.get(part) if isinstance(table, dict) else None
    if not isinstance(table, dict) or last not in table:
        raise _absent(file, key)
    return table, last


def _ini_find(text: str, file: str, key: str) -> tuple[int, re.Match[str]]:
    """The line number and match of the last assignment of ``section.key`` or ``key`` (the last one counts where files repeat a key)."""
    sections = format_of(file) == "ini" and "." in key and any(_SECTION.match(line) for line in text.splitlines())
    section, name = key.rsplit(".", 1) if sections else ("", key)
    if format_of(file) == "properties":  # a comment is a line of its own there, and a space separates too
        line_of = re.compile(rf"^(?P<before>\s*{re.escape(name)}(?:\s*[=:]\s*|\s+))(?P<value>[^\r\n]*?)(?P<after>\s*)$")
    else:
        line_of = re.compile(rf"^(?P<before>\s*(?:export\s+)?{re.escape(name)}\s*[=:]\s*)(?P<value>\"[^\"]*\"|'[^']*'|[^#;\r\n]*?)(?P<after>\s*(?:[#;].*)?)$")
    current, found = "", None
    for number, line in enumerate(text.splitlines()):
        if header := _SECTION.match(line):
            current = header[1].strip()
        elif current == section and (match := line_of.match(line)):
            found = (number, match)
    if found is None:
        raise _absent(file, key)
    return found


def _ini_value(raw: str) -> Value:
    text = raw[1:-1] if len(raw) >= 2 and raw[0] == raw[-1] and raw[0] in "\"'" else raw
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    if re.fullmatch(r"[+-]?\d+\.\d+", text):
        return float(text)
    return text


def _ini_replaced(text: str, file: str, key: str, value: Value) -> str:
    number, match = _ini_find(text, file, key)
    shown = ("true" if value else "false") if isinstance(value, bool) else str(value)
    if "\n" in shown or "\r" in shown:
        raise ChangeRefused(f"the value for {key} holds a line break", fix="choose a value of one line")
    raw = match["value"]
    quote = raw[0] if len(raw) >= 2 and raw[0] == raw[-1] and raw[0] in "\"'" else ""
    lines = text.splitlines(keepends=True)
    ending = lines[number][len(lines[number].rstrip("\r\n")) :]
    lines[number] = f"{match['before']}{quote}{shown}{quote}{match['after']}{ending}"
    return "".join(lines)
