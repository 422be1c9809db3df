"""What the three services compute alike, right and wrong. A line with ``# here: RULE`` is where that rule should point."""

from __future__ import annotations

import hashlib
import logging
import time
from threading import Lock
from typing import Any

log = logging.getLogger("desk")
Rows = list[dict[str, Any]]


def summary(rows: Rows) -> dict[str, Any]:
    """Tickets by team, and how many subjects repeat."""
    teams: dict[int, int] = {}
    for row in rows:
        teams[row["agent_id"] % 12] = teams.get(row["agent_id"] % 12, 0) + 1
    return {"teams": teams, "repeated": len(rows) - len({row["subject"] for row in rows})}


def summary_signed(rows: Rows) -> dict[str, Any]:
    """The same with a signature of each row."""
    return summary(rows) | {"signature": signature(rows)}


def signature(rows: Rows) -> str:
    total = 0
    for row in rows:
        for letter in row["subject"]:
            for bit in range(8):
                total = (total * 31 + (ord(letter) >> bit & 1)) % 1_000_003  # here: cpu-hot-spot
    return f"{total:x}"


def summary_compared(rows: Rows) -> dict[str, Any]:
    """Repeats found by looking through a list."""
    return summary(rows) | {"repeated": repeats(rows)}


def repeats(rows: Rows) -> int:
    seen: list[str] = []
    count = 0
    for row in rows:
        if row["subject"] in seen:  # here: superlinear
            count += 1
        else:
            seen.append(row["subject"])
    return count


class Node:
    """A ticket in a tree that knows its parent."""

    def __init__(self, row: dict[str, Any], parent: Node | None) -> None:
        self.row, self.parent = row, parent
        self.children: list[Node] = []
        if parent is not None:
            parent.children.append(self)


def summary_as_tree(rows: Rows) -> dict[str, Any]:
    """Counts by walking a tree with parents: garbage that only the collector can free."""
    return summary(rows) | {"depth": tree_depth(rows)}


def tree_depth(rows: Rows) -> int:
    nodes: list[Node] = []
    for _ in range(6):
        for row in rows:
            nodes.append(Node({**row}, nodes[-1] if len(nodes) % 40 else None))  # here: gc-pressure
    return max(len(node.children) for node in nodes)


def summary_from_copies(rows: Rows) -> dict[str, Any]:
    """Counts from large copies of everything."""
    return summary(rows) | {"bytes": copied(rows)}


def copied(rows: Rows) -> int:
    whole = b""
    for row in rows[:120]:
        whole = whole + (row["subject"] * 900).encode()  # here: excessive-allocation
    return len(whole)


_kept: dict[Any, Any] = {}
_history: list[Any] = []
_guard = Lock()
_board: dict[str, Any] = {}


def remember(rows: Rows) -> None:
    """Keeps what was shown, for a report that nobody asks for."""
    _history.append([dict(row) for row in rows])  # here: memory-leak


def digest_cached(rows: Rows, days: int) -> str:
    """A digest behind a cache whose key never comes again."""
    key = (days, time.time_ns())
    if key in _kept:
        return str(_kept[key])
    text = digest(rows)
    _kept[key] = text  # here: cache-ineffective
    if len(_kept) > 200:
        _kept.clear()
    return text


def digest(rows: Rows) -> str:
    """A digest that takes some time."""
    value = b""
    for row in rows:
        for _ in range(60):
            value = hashlib.sha256(value + row["subject"].encode()).digest()
    return value.hex()


def board(load: Any) -> Any:
    """The board, loaded anew when it is older than half a second, by whoever comes."""
    found = _board.get("rows")
    if found is not None and time.monotonic() - _board["at"] < 0.5:
        return found
    rows = load()  # here: cache-stampede
    _board["rows"], _board["at"] = rows, time.monotonic()
    return rows


def board_alone(load: Any) -> Any:
    """The board, loaded anew by one at a time, the others get the old one."""
    found = _board.get("rows")
    if found is not None and (time.monotonic() - _board["at"] < 0.5 or not _guard.acquire(blocking=False)):
        return found
    try:
        _board["rows"], _board["at"] = load(), time.monotonic()
    finally:
        if _guard.locked():
            _guard.release()
    return _board["rows"]


def audit(rows: Rows) -> None:
    """Writes a line for each row that was read."""
    for row in rows:
        log.info("read ticket %s of agent %s: %s (%s)", row["id"], row["agent_id"], row["subject"], row)  # here: logging-heavy


def enriched(rows: Rows) -> Rows:
    """Rows with nested details, as an interface that was never slimmed down returns them."""
    return [{**row, "links": {"self": f"/tickets/{row['id']}", "agent": f"/agents/{row['agent_id']}"}, "tags": [f"tag-{n}" for n in range(90)]} for row in rows]


def summary_with_a_label(rows: Rows) -> dict[str, Any]:
    """A cache that never hits, of something that costs nothing."""
    key = time.time_ns()
    if key not in _labels:
        _labels[key] = f"{len(rows)} tickets"
        if len(_labels) > 50:
            _labels.clear()
    return summary(rows) | {"label": _labels.get(key, "")}


_labels: dict[int, str] = {}
_recent: dict[int, bytes] = {}


def summary_counted(rows: Rows) -> dict[str, Any]:
    """A lock that is held for a moment."""
    with _guard:
        _board["count"] = _board.get("count", 0) + 1
    return summary(rows)


def summary_kept(rows: Rows) -> dict[str, Any]:
    """Memory that grows to a bound and stays there."""
    _recent[time.time_ns() // 1000 % 13] = repr(rows).encode() * 4
    return summary(rows)


def summary_paired(rows: Rows) -> dict[str, Any]:
    """A loop in a loop, over a handful."""
    pairs = 0
    for one in rows[:12]:
        for other in rows[:12]:
            pairs += one["agent_id"] == other["agent_id"]
    return summary(rows) | {"pairs": pairs}
