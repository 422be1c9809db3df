"""What passed through a tap, grouped by what was asked: how often, how long, how often with an error. Literals never become part of a label."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

LABELS_MAX = 500
LABEL_MAX_CHARS = 400
OTHERS = "(others)"

_LITERALS = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|$)"""  # comments
    r"""|\$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|$)"""  # dollar quotes
    r"""|[eEbBxXnN]?'(?:[^'\\]|''|\\.)*(?:'|$)"""  # strings, cut off ones too
    r"""|(?<![\w$])[+-]?\d[\w.]*""",  # numbers; $1 and names with digits stay
    re.S,
)
_MYSQL_STRING = re.compile(r'"(?:[^"\\]|""|\\.)*(?:"|$)', re.S)
_LISTS = re.compile(r"(?:(?<=\bin)|(?<!\w))\(\s*\?(?:\s*,\s*\?)+\s*\)", re.I)  # of IN and VALUES, not arguments
_ID = re.compile(r"\d|^[0-9a-f-]{16,}$|[%@=+]")


@dataclass
class Group:
    """``seconds``: from when it was sent on until it was answered whole, a delay by the tap not counted."""

    count: int = 0
    seconds: float = 0.0
    errors: int = 0


class Groups:
    """All groups of a tap; at most 500 labels, what comes after is counted together."""

    def __init__(self) -> None:
        self._groups: dict[str, Group] = {}

    def add(self, label: str, seconds: float, error: bool = False) -> None:
        """One exchange."""
        label = label[:LABEL_MAX_CHARS]
        if label not in self._groups and len(self._groups) >= LABELS_MAX:
            label = OTHERS
        group = self._groups.setdefault(label, Group())
        group.count += 1
        group.seconds += max(0.0, seconds)
        group.errors += error

    def report(self) -> dict[str, dict[str, Any]]:
        """By label, most time first."""
        return {label: asdict(group) for label, group in sorted(self._groups.items(), key=lambda item: -item[1].seconds)}


def statement(sql: str, double_quotes: bool = False) -> str:
    """A statement without its literals and comments, on one line. ``double_quotes``: they hold strings too (MySQL)."""
    text = _LITERALS.sub(lambda found: " " if found[0][:2] in ("--", "/*") else "?", sql)
    if double_quotes:
        text = _MYSQL_STRING.sub("?", text)
    return _LISTS.sub("(?)", " ".join(text.split()))[:LABEL_MAX_CHARS]


def path(target: str) -> str:
    """A request target with what looks like an identifier as ``{id}``, and of the query only the names."""
    before, _, query = target.partition("?")
    parts = ["{id}" if _ID.search(part) else part for part in before.split("/")]
    names = sorted({pair.partition("=")[0] for pair in query.split("&") if pair})
    return "/".join(parts) + ("?" + "&".join(name for name in names if not _ID.search(name)) if names else "")


def key(name: str) -> str:
    """A cache key by what stands before its first colon; ``*`` where there is no colon."""
    head, colon, _ = name.partition(":")
    return f"{head}:*" if colon and head.isidentifier() and not _ID.search(head) else "*"
