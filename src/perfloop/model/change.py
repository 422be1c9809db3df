"""What we would do, and what we did: plans, changes, and the states of their journal."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from perfloop.model.base import SCHEMA_VERSION, Estimate, Word


class Safety(StrEnum):
    """``safe``: applied by itself where changes are allowed; ``ask``: needs a yes; ``show``: displayed, never applied."""

    SAFE = "safe"
    ASK = "ask"
    SHOW = "show"


class Change(Word):
    """One change to one thing. ``before`` is the live value (or a description of its absence) at planning; ``live_hash`` refuses a stale plan.

    ``params`` is all that the kind needs to apply and to undo it from another process (the watchdog), without secrets: credentials by reference.
    """

    id: str
    kind: str
    title: str
    finding: str = ""  # rule id it answers; empty for a candidate the user named
    steps: tuple[str, ...] = ()  # endpoints by which it will be judged
    params: dict[str, Any] = {}
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    live_hash: str = ""
    diff: str = ""  # unified diff or DDL, as a person reads it
    risk: str = ""
    reach: str = ""  # process, host, database, cluster
    safety: Safety = Safety.ASK
    undo_commands: tuple[str, ...] = ()  # what a person would type
    apply_commands: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()  # "database:shop", "table:orders", "index:…"
    restarts: bool = False
    lint: tuple[str, ...] = ()


class Plan(Word):
    """Changes that answer one diagnosis, in the order they would be tried."""

    schema_version: Literal[1] = SCHEMA_VERSION
    id: str
    run_id: str
    created_at: str
    target_url: str
    changes: tuple[Change, ...]
    expected_gain: dict[str, Estimate] = {}  # change id → seconds an average request would win back


class ChangeState(StrEnum):
    """planned → journalled → applying → applied → verified → measured → kept | undoing → undone; ``stuck`` where the undo could not be verified."""

    PLANNED = "planned"
    JOURNALLED = "journalled"
    APPLYING = "applying"
    APPLIED = "applied"
    VERIFIED = "verified"
    MEASURED = "measured"
    KEPT = "kept"
    UNDOING = "undoing"
    UNDONE = "undone"
    STUCK = "stuck"

    @property
    def open(self) -> bool:
        """True while the change may have an effect that nobody has decided to keep."""
        return self not in (ChangeState.PLANNED, ChangeState.KEPT, ChangeState.UNDONE)


class Approval(Word):
    """A kind of change that somebody approved for a target in an environment, until it is revoked."""

    id: str
    target_url: str
    kind: str
    environment: str
    approved_by: str
    ticket: str = ""
    given_at: str = ""


class JournalEntry(Word):
    """A change in the machine-wide journal. ``owner_pid`` and ``owner_started_s`` name the process that holds it; ``backend`` notes what of ours may still run elsewhere (``postgresql pid 4711``)."""

    change: Change
    state: ChangeState
    target_url: str
    run_id: str
    project_dir: str
    environment: str
    owner_pid: int
    owner_started_s: float
    updated_at: str
    lease_until: str = ""
    backend: dict[str, Any] = {}
    error: str = ""
