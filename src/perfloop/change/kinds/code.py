"""``code``: shown, never applied: where it is, and what to write instead."""

from __future__ import annotations

from typing import Any

from perfloop.change.base import ChangeContext, Note, hash_of
from perfloop.errors import ChangeRefused
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal

ID = "code"
OPERATION = "code_change"


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """The suggestion as text; params: ``file``, ``line``, ``instead`` (what to write), ``current`` (what stands there) and ``why``, all optional."""
    params = proposal.params
    place = str(params.get("file", "")) + (f":{params['line']}" if params.get("line") else "")
    lines = [place] if place else []
    lines += [f"-{line}" for line in str(params.get("current", "")).splitlines()]
    lines += [f"+{line}" for line in str(params.get("instead", params.get("suggestion", ""))).splitlines()]
    if params.get("why"):
        lines.append(str(params["why"]))
    return Change(
        id=f"chg-{hash_of([proposal.title, params])[:12]}",
        kind=ID,
        title=proposal.title,
        params=params,
        after={"code": params.get("instead", params.get("suggestion", proposal.title))},
        diff="\n".join(lines),
        risk="a person writes, reviews and tests it",
        reach="the service's code",
        safety=Safety.SHOW,
        resources=(f"file:{place}",) if place else (),
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """Nothing: code is not read back."""
    return {}


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Always refused."""
    raise ChangeRefused(f"not applied: {change.title}", why="a change of code is shown, never applied", fix=f"write it by hand:\n{change.diff}")


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Nothing runs."""


def verify(change: Change, context: ChangeContext) -> bool:
    """Never in effect by us."""
    return False


def undo(change: Change, context: ChangeContext) -> None:
    """Nothing was done."""


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True: nothing was done."""
    return True
