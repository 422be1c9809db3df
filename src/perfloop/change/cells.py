"""State made of named cells, each read and written on its own: made, compared and swapped back without ever overwriting what is not ours.

A cell holds a JSON value; None is its absence. ``Change.before`` and ``Change.after`` hold one value for each cell, in the order in which they are written,
when a change is made and when it is undone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from perfloop.change.base import Note
from perfloop.errors import CannotMeasure, ChangeRefused, PerfloopError, UndoFailed
from perfloop.model.change import Change

#: a server that restarts is waited for so long before an undo is stuck
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Cell:
    """One piece of state. ``derived``: it follows from the cells before it (a running value that a reload takes from a file), so whatever it is, it is written again."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], None]
    ours: Callable[[Any], bool] = lambda value: False  # values on the way from before to after
    derived: bool = False


def read(cells: Sequence[Cell]) -> dict[str, Any]:
    """The live value of each cell."""
    return {cell.name: cell.read() for cell in cells}


def refuse_moved(change: Change, cells: Sequence[Cell]) -> dict[str, Any]:
    """The live values; ``ChangeRefused`` where one moved since the plan."""
    now = read(cells)
    if moved := [name for name in now if now[name] != change.before[name]]:
        raise ChangeRefused(
            f"not applied: {change.title}",
            why="; ".join(f"{name} is {shown(now[name])}, and was {shown(change.before[name])} when the plan was made" for name in moved),
            fix="make a new plan: perfloop plan",
        )
    return now


def apply(change: Change, cells: Sequence[Cell], note: Note) -> None:
    """Writes the new values; ``ChangeRefused`` where a live one moved since the plan, before anything is written."""
    now = refuse_moved(change, cells)
    note({"type": "cells", "cells": list(now)})
    for cell in cells:
        if cell.derived or now[cell.name] != change.after[cell.name]:
            cell.write(change.after[cell.name])


def holds(cells: Sequence[Cell], values: dict[str, Any]) -> bool:
    """True where every cell has the value that ``values`` names."""
    return all(cell.read() == values[cell.name] for cell in cells)


def undo(change: Change, cells: Sequence[Cell]) -> None:
    """Puts every cell back that is still ours; ``UndoFailed`` where one is neither ours nor the old one (it is left alone), or the server does not come back."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            foreign: list[str] = []
            for cell in cells:
                if not (cell.derived and foreign) and (text := _put_back(change, cell)):
                    foreign.append(text)
            break
        except CannotMeasure as error:  # it restarts, or is not there: the same again is harmless
            if time.monotonic() > deadline:
                raise stuck(change, f"{error.what}: {error.why}") from error
            time.sleep(0.5)
        except UndoFailed:
            raise
        except PerfloopError as error:
            raise stuck(change, f"{error.what}: {error.why}") from error
    if foreign:
        raise stuck(change, "; ".join(foreign))


def _put_back(change: Change, cell: Cell) -> str:
    """Writes the old value where the live one is ours; the sentence that says whose it is otherwise."""
    before, after, live = change.before[cell.name], change.after[cell.name], cell.read()
    if live == before:
        return ""
    if live != after and not cell.ours(live) and not cell.derived:
        return (
            f"{cell.name} is {shown(live)}: neither ours ({shown(after)}) nor the old value ({shown(before)}); somebody else changed it, and it was left alone"
        )
    cell.write(before)
    return ""


def shown(value: Any) -> str:
    """A value in a message."""
    return "unset" if value is None else repr(value)[:200]


def stuck(change: Change, why: str) -> UndoFailed:
    """The error of an undo that could not be finished, with the commands to run by hand."""
    return UndoFailed(f"could not undo: {change.title}", why=why, commands=change.undo_commands)
