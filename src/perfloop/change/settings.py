"""One key of a configuration file: read and replaced in the text, everything else kept as it stands. Pure: bytes in, bytes out."""

from __future__ import annotations

import json
import re
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from perfloop.errors import ChangeRefused

Value = bool | int | float | str
_SECTION = re.compile(r"^\s*\[([^\]]+)\]\s*$")


def format_of(file: str) -> str:
    """``toml``, ``json`` or ``ini`` (KEY=VALUE, with or without sections), by the file's ending."""
    ending = file.rsplit(".", 1)[-1].lower()
    return ending if ending in ("toml", "json") else "ini"


def get(data: bytes, file: str, key: str) -> Value:
    """The value of the dotted ``key``; ``ChangeRefused`` where it is absent, no single value, or the file cannot be parsed."""
    text = _text(data, file)
    kind = format_of(file)
    if kind == "ini":
        return _ini_value(_ini_find(text, file, key)[1]["value"])
    table, last = _descend(_parsed(text, file, kind), file, key)
    value = table[last]
    value = value.unwrap() if hasattr(value, "unwrap") else value
    if not isinstance(value, bool | int | float | str):
        raise ChangeRefused(f"{key} in {file} is no single value", why=f"it is a {type(value).__name__}", fix="name a key with a number, a text, true or false")
    return value


def replaced(data: bytes, file: str, key: str, value: Value) -> bytes:
    """The file with ``key`` set to ``value``. TOML and KEY=VALUE keep comments and order; JSON keeps its indentation."""
    text = _text(data, file)
    kind = format_of(file)
    if kind == "ini":
        return _ini_replaced(text, file, key, value).encode()
    document = _parsed(text, file, kind)
    table, last = _descend(document, file, key)
    table[last] = value
    if kind == "toml":
        return tomlkit.dumps(document).encode()
    indent = re.search(r"\n([ \t]+)\"", text)
    end = "\n" if text.endswith("\n") else ""
    return (json.dumps(document, indent=indent[1] if indent else None, ensure_ascii=False) + end).encode()


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


def _parsed(text: str, file: str, kind: str) -> Any:
    try:
        return tomlkit.parse(text) if kind == "toml" else json.loads(text)
    except (TOMLKitError, ValueError) as error:
        raise ChangeRefused(f"{file} cannot be parsed as {kind.upper()}", why=str(error), fix="correct the file") from None


def _descend(document: Any, file: str, key: str) -> tuple[Any, str]:
    *path, last = key.split(".")
    table = document
    for part in path:
        table = table.get(part) if isinstance(table, dict) else None
    if not isinstance(table, dict) or last not in table:
        raise ChangeRefused(f"{file} has no key {key}", why="its value now is unknown", fix=f"write {key} into {file} with the value it has now")
    return table, last


def _ini_find(text: str, file: str, key: str) -> tuple[int, re.Match[str]]:
    """The line number and match of the last assignment of ``section.key`` or ``key`` (the last one counts where files repeat a key)."""
    section, name = key.rsplit(".", 1) if "." in key and any(_SECTION.match(line) for line in text.splitlines()) else ("", key)
    line_of = re.compile(rf"^(?P<before>\s*(?:export\s+)?{re.escape(name)}\s*[=:]\s*)(?P<value>\"[^\"]*\"|'[^']*'|[^#;\r\n]*?)(?P<after>\s*(?:[#;].*)?)$")
    current, found = "", None
    for number, line in enumerate(text.splitlines()):
        if header := _SECTION.match(line):
            current = header[1].strip()
        elif current == section and (match := line_of.match(line)):
            found = (number, match)
    if found is None:
        raise ChangeRefused(f"{file} has no key {key}", why="its value now is unknown", fix=f"write {key} into {file} with the value it has now")
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
