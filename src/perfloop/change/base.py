"""What a kind of change is: a module with the functions of :class:`ChangeKind`, and the context they are given."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from perfloop.errors import ChangeRefused
from perfloop.model.change import Change
from perfloop.model.config import Config
from perfloop.model.finding import Proposal


@dataclass(frozen=True)
class ChangeContext:
    """What a kind may know: the configuration and its folder, how to resolve references to secrets, the environment, and where before-images go.

    Undoing happens in other processes too (the watchdog, the next command): there ``config`` is the default one, so all that an undo needs is in ``Change.params``.
    """

    base_dir: Path
    config: Config
    resolve: Callable[[str], str] = field(repr=False)
    environment: str
    image_dir: Path | None = None  # set by the guard before anything is applied


#: records what of ours may go on running elsewhere (a backend pid, a command), durably, before it runs
Note = Callable[[dict[str, Any]], None]


class ChangeKind(Protocol):
    """One kind of change. Every function is bounded in time, and safe to call again after a crash at any point.

    ``COSTLY = True`` in a kind says that making the change takes long, so that its undo is rehearsed by the proof and not before it.
    ``params["command"]`` and ``params["rollback_command"]``, where present, are what the audit log shows; ``OPERATION`` is its name there.
    """

    ID: str
    OPERATION: str

    def plan(self, proposal: Proposal, context: ChangeContext) -> Change:
        """The change that carries out a proposal, with its diff, risk and undo; ``ChangeRefused`` where it makes no sense or is not possible here."""

    def read(self, change: Change, context: ChangeContext) -> dict[str, Any]:
        """The live value now."""

    def apply(self, change: Change, context: ChangeContext, note: Note) -> None:
        """Makes the change; ``ChangeRefused`` where the live value moved since the plan or it fails."""

    def cancel(self, change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
        """Stops what of this change still runs, as ``note`` recorded it, and waits until it is gone."""

    def verify(self, change: Change, context: ChangeContext) -> bool:
        """Reads back whether the change is in effect and the service healthy."""

    def undo(self, change: Change, context: ChangeContext) -> None:
        """Restores the old value, once or again; ``UndoFailed`` where the live value is neither ours nor the old one."""

    def verify_undone(self, change: Change, context: ChangeContext) -> bool:
        """Reads back whether the old value is in effect."""


def new_id() -> str:
    """An id for a change, unique on any machine."""
    return f"chg-{secrets.token_hex(6)}"


def hash_of(value: Any) -> str:
    """SHA-256 of a JSON value, to see whether the live value moved since the plan."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def refuse_stale(change: Change, live_hash: str) -> None:
    """``ChangeRefused`` where the live value is not the one that the plan was made for."""
    if change.live_hash and live_hash != change.live_hash:
        raise ChangeRefused(f"not applied: {change.title}", why="the live value moved since the plan was made", fix="make a new plan: perfloop plan")


def absolute_reference(reference: str, base_dir: Path) -> str:
    """A reference to a secret that means the same from any folder: ``file:PATH`` made absolute."""
    if reference.startswith("file:"):
        return f"file:{(base_dir / Path(reference.removeprefix('file:')).expanduser()).absolute()}"
    return reference
