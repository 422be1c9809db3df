"""Journeys in Python: what a file of journeys imports.

    from perfloop.load.script import User, journey, rows

    people = rows("people.csv")

    @journey(weight=3, think_s=(1, 3))
    async def browse(user: User) -> None:
        person = people.row(user.iteration)
        reply = await user.post("/login", json={"name": person["name"]})
        user.check("logged in", reply.json()["ok"])
        await user.think(0.5)
        await user.get(f"/orders/{person['order']}", name="GET /orders/{id}")

A file without ``@journey`` gives all its public ``async def`` functions of one argument. ``async def setup(user)`` runs once before the load, and what
it returns is every user's ``user.data``; ``async def teardown(user)`` runs once afterwards, also when the load failed or was stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from perfloop.load.engines.feeds import Rows, read_text
from perfloop.load.engines.reply import Reply, ReplyError
from perfloop.load.engines.users import User

F = TypeVar("F", bound=Callable[..., Any])
MARK = "perfloop_journey"
#: The folder that data files are relative to while a file of journeys is loaded: its own.
folder = Path()


def journey(weight: float = 1.0, think_s: tuple[float, float] = (0.0, 0.0), name: str = "") -> Callable[[F], F]:
    """Marks a function as a journey, with its weight and the pause after it."""

    def mark(function: F) -> F:
        setattr(function, MARK, (name or function.__name__, weight, think_s))
        return function

    return mark


def rows(file: str, order: str = "sequential", stop: bool = False, seed: int = 1) -> Rows:
    """The rows of a CSV or JSONL file beside the file of journeys; ``rows.row(user.iteration)`` is the one of this iteration."""
    return Rows(file, read_text(str(folder / file)), order, stop, seed)


__all__ = ["Reply", "ReplyError", "Rows", "User", "journey", "rows"]
