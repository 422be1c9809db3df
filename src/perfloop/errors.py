"""Every error a user can meet.

    PerfloopError            what, why, fix, hint; exit_code
    ├── UsageError           2    asked wrongly: flag, configuration, bound, unknown name
    ├── CannotMeasure        3    target down, engine missing, permission, measurement invalid
    │   └── StorageError     3    disk full, unreadable run, newer schema
    ├── ChangeRefused        1    not safe, not allowed here, live value moved since the plan
    ├── Interrupted          130  Ctrl-C or SIGTERM; undone, partial results kept
    └── UndoFailed           5    a change is stuck; the commands to run by hand are in ``commands``

Raised, never returned. A door renders an error once, with :meth:`PerfloopError.render`.
"""

from __future__ import annotations


class PerfloopError(Exception):
    """What went wrong (``what``), the evidence (``why``), the next command (``fix``), and an optional ``hint``."""

    exit_code = 1

    def __init__(self, what: str, why: str = "", fix: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.fix, self.hint = what, why, fix, hint

    def render(self) -> str:
        """The message as a terminal shows it: ``error:`` line, then why, fix and hint where there are any."""
        lines = [f"error: {self.what}"]
        lines += [f"  {k}: {v}" for k, v in (("why", self.why), ("fix", self.fix), ("hint", self.hint)) if v]
        return "\n".join(lines)


class UsageError(PerfloopError):
    """Asked wrongly; nothing has run."""

    exit_code = 2


class CannotMeasure(PerfloopError):
    """The measurement could not be taken, or was invalid; no number is reported."""

    exit_code = 3


class StorageError(CannotMeasure):
    """A stored run, journal or folder cannot be read or written."""


class ChangeRefused(PerfloopError):
    """A change was not made, because it is not safe or not allowed here."""

    exit_code = 1


class Interrupted(PerfloopError):
    """Stopped by the user; what was changed is undone and partial results are kept."""

    exit_code = 130


class UndoFailed(PerfloopError):
    """An undo did not verify; ``commands`` are to be run by hand."""

    exit_code = 5

    def __init__(self, what: str, why: str = "", fix: str = "", hint: str = "", commands: tuple[str, ...] = ()) -> None:
        super().__init__(what, why, fix or "; ".join(commands), hint)
        self.commands = commands
