"""Validation errors in words that name the value and the bound; the validator's own texts never reach a user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VALUE_SHOWN_MAX = 80

_KINDS = {
    "int_parsing": "is no whole number",
    "int_type": "is no whole number",
    "int_from_float": "is no whole number",
    "float_parsing": "is no number",
    "float_type": "is no number",
    "finite_number": "is no finite number",
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
    "string_type": "is no text",
}


def reason(error: Mapping[str, Any]) -> str:
    """One entry of ``ValidationError.errors()`` as a clause: ``0 is below 0.1``, ``'fast' is not one of html, json``."""
    kind, context, value = error["type"], error.get("ctx") or {}, _shown(error.get("input"))
    match kind:
        case "greater_than_equal":
            return f"{value} is below {_number(context['ge'])}"
        case "less_than_equal":
            return f"{value} is above {_number(context['le'])}"
        case "greater_than":
            return f"{value} is not above {_number(context['gt'])}"
        case "less_than":
            return f"{value} is not below {_number(context['lt'])}"
        case "literal_error" | "enum":
            return f"{value} is not one of {str(context['expected']).replace(' or ', ', ').replace(chr(39), '')}"
        case "string_too_long":
            return f"it is longer than {context['max_length']} characters"
        case "string_too_short" | "missing":
            return "it is missing"
        case "string_pattern_mismatch":
            return f"{value} does not match {context['pattern']}"
        case "value_error":
            return str(context.get("error", "it is not valid"))
        case "extra_forbidden":
            return "there is no such key"
        case _:
            return f"{value} {_KINDS.get(kind, 'is not valid')}"


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) and not _is_number(value) else str(value)
    return text if len(text) <= VALUE_SHOWN_MAX else text[: VALUE_SHOWN_MAX - 1] + "…"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(value: Any) -> str:
    return f"{value:,g}" if isinstance(value, (int, float)) and abs(value) < 1e6 else str(value)
