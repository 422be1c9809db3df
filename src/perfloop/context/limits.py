"""What may be done here: safeguards scale with the environment."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from perfloop.model.change import Change, Safety
from perfloop.model.config import Config
from perfloop.model.target import Environment


@dataclass(frozen=True)
class Policy:
    """What may be changed without a further question. ``notes`` say which safeguard was skipped because it does not exist here, or what forbids all changes."""

    environment: Environment
    changes_allowed: bool
    ask_allowed: bool  # also those that ask: the yes was given
    restart_allowed: bool
    needs_ticket: bool
    notes: tuple[str, ...] = ()
    reason: str = ""  # why no change is allowed
    approved: frozenset[str] = frozenset()  # kinds whose approval for this target is remembered
    approval_missing: str = ""  # why a kind that is not among them may not be applied

    def refusal(self, change: Change) -> str:
        """Why a change may not be applied here, with what would allow it; empty where it may."""
        if not self.changes_allowed:
            return self.reason
        if change.safety == Safety.SHOW:
            return "it is shown, never applied"
        if change.kind in self.approved:
            return ""
        if self.approval_missing:
            return self.approval_missing
        if change.restarts and not self.restart_allowed:
            return f"it restarts the service, which asks first in {self.environment}: set changes.restart = true, or answer yes"
        if change.safety == Safety.ASK and not self.ask_allowed:
            return 'it asks first: set changes.allow = "ask", or answer yes'
        return ""


def policy(config: Config, environment: Environment | None = None, approved: Collection[str] = ()) -> Policy:
    """The rules for an environment: in production every change needs a ticket and an approval; a sandbox skips both, and says so.

    An environment that was never told counts as staging. ``approved`` are kinds whose approval is remembered for this target: they ask no more.
    """
    where = environment or config.target.environment or Environment.STAGING
    changes, notes = config.changes, []
    needs_ticket = where == Environment.PRODUCTION
    approval_missing = ""
    missing = [key for key, value in (("changes.ticket", changes.ticket), ("changes.approved_by", changes.approved_by)) if needs_ticket and not value]
    reason = ""
    if changes.allow == "none":
        reason = 'no change is allowed: set changes.allow = "safe"'
    elif missing == ["changes.approved_by"] and approved:
        approval_missing = "in production every change needs an approval: set changes.approved_by, or perfloop approvals KIND --by NAME"
    elif missing:
        reason = f"in production every change needs a ticket and an approval: set {' and '.join(missing)}"
        notes.append(reason)
    if where == Environment.SANDBOX:
        if not changes.ticket:
            notes.append("change ticket and approval: skipped, this is a sandbox")
        notes.append("on-call notice: skipped, this is a sandbox")
    elif where == Environment.STAGING and not changes.ticket and changes.allow != "none":
        notes.append("change ticket: none was given, and staging asks for none")
    asked = changes.allow == "ask"
    restart = bool(config.target.restart_command) and (where == Environment.SANDBOX or changes.restart or asked)
    return Policy(where, not reason, asked and not reason, restart and not reason, needs_ticket, tuple(notes), reason, frozenset(approved), approval_missing)
