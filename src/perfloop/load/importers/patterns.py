"""A text that a regular expression of a schema matches, made from the expression's own parse; the first choice of everything, so it is short and always the same."""

from __future__ import annotations

import re
from typing import Any

try:
    from re import _parser as sre  # type: ignore[attr-defined]
except ImportError:  # pragma: no cover
    import sre_parse as sre

REPEAT_MAX = 200
_CATEGORIES = {
    "CATEGORY_DIGIT": "7",
    "CATEGORY_WORD": "a",
    "CATEGORY_SPACE": " ",
    "CATEGORY_NOT_DIGIT": "a",
    "CATEGORY_NOT_WORD": "-",
    "CATEGORY_NOT_SPACE": "a",
}
_ALPHABET = "a0A-_. /:@"


def matching(pattern: str, length_min: int = 0, length_max: int | None = None) -> str | None:
    """A text that the pattern matches, within the lengths; None where none can be made (look-around, back-references, a pattern Python cannot read)."""
    try:
        parsed = sre.parse(pattern)
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return None
    for extra in (0, 1, 2, 4, 8, 16, 32, 64):
        text = _of(parsed, extra)
        if text is None:
            return None
        if length_min <= len(text) <= (length_max if length_max is not None else len(text)) and compiled.search(text):
            return text
    return None


def _of(nodes: Any, extra: int) -> str | None:
    parts = []
    for operation, argument in nodes:
        text = _one(str(operation), argument, extra)
        if text is None:
            return None
        parts.append(text)
    return "".join(parts)


def _one(operation: str, argument: Any, extra: int) -> str | None:
    match operation:
        case "LITERAL":
            return chr(argument)
        case "NOT_LITERAL":
            return next(c for c in _ALPHABET if ord(c) != argument)
        case "ANY":
            return "a"
        case "AT":
            return ""
        case "IN":
            return _in(argument)
        case "CATEGORY":
            return _CATEGORIES.get(str(argument))
        case "BRANCH":
            return next((text for branch in argument[1] if (text := _of(branch, extra)) is not None), None)
        case "SUBPATTERN":
            return _of(argument[-1], extra)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            low, high, inner = argument
            count = min(low + extra, int(high))
            if count > REPEAT_MAX:
                return None
            text = _of(inner, 0)
            return None if text is None else text * count
        case "ATOMIC_GROUP":
            return _of(argument, extra)
    return None


def _in(items: Any) -> str | None:
    """A sign of a set; of a negated one, the first of a small alphabet that is not in it."""
    negated = bool(items) and str(items[0][0]) == "NEGATE"
    if not negated:
        operation, argument = items[0]
        return chr(argument[0]) if str(operation) == "RANGE" else _one(str(operation), argument, 0)
    members = [(str(operation), argument) for operation, argument in items[1:]]
    return next((c for c in _ALPHABET if not any(_holds(o, a, c) for o, a in members)), None)


def _holds(operation: str, argument: Any, sign: str) -> bool:
    if operation == "LITERAL":
        return ord(sign) == int(argument)
    if operation == "RANGE":
        low, high = argument
        return int(low) <= ord(sign) <= int(high)
    known = {
        "CATEGORY_DIGIT": r"\d",
        "CATEGORY_WORD": r"\w",
        "CATEGORY_SPACE": r"\s",
        "CATEGORY_NOT_DIGIT": r"\D",
        "CATEGORY_NOT_WORD": r"\W",
        "CATEGORY_NOT_SPACE": r"\S",
    }
    found: re.Match[str] | None = re.match(known.get(str(argument), r"."), sign)
    return found is not None
