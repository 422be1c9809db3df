"""Plans and conditions without values: what PostgreSQL prints repeats the literals of a query, which may be personal data."""

from __future__ import annotations

from typing import Any


def without_literals(plan: Any) -> Any:
    """A plan whose conditions show ``?`` for every value, since a plan of a text with literals repeats them."""
    if isinstance(plan, list):
        return [without_literals(part) for part in plan]
    if not isinstance(plan, dict):
        return plan
    return {
        name: _hide(value)
        if name.endswith(("Cond", "Filter", "Key", "Keys", "Output", "Function Call", "Presorted Key", "Order By", "Cache Key"))
        else without_literals(value)
        for name, value in plan.items()
    }


def _hide(value: Any) -> Any:
    if isinstance(value, list):
        return [_hide(part) for part in value]
    return hide_values(value) if isinstance(value, str) else value


def hide_values(text: str) -> str:
    """A condition as PostgreSQL prints it, with ``?`` for strings and numbers; names, ``$1`` and casts stay."""
    found, at = [], 0
    while at < len(text):
        char = text[at]
        if char in "'\"":
            end = _closing(text, at)
            found.append("?" if char == "'" else text[at:end])
            at = end
        elif char.isdigit() and not (at and (text[at - 1].isalnum() or text[at - 1] in "_$")):
            while at < len(text) and (text[at].isdigit() or text[at] in ".eE"):
                at += 1
            found.append("?")
        else:
            found.append(char)
            at += 1
    return "".join(found)


def _closing(text: str, start: int) -> int:
    """Where the quotation that opens at ``start`` is over; doubled quotes belong to it."""
    quote, at = text[start], start + 1
    while at < len(text):
        if text[at] == quote:
            if text[at + 1 : at + 2] != quote:
                return at + 1
            at += 1
        at += 1
    return at
