"""One change as a transaction: journalled before its effect, watched while it is open, and undone on every way out but ``keep``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

from perfloop.change.base import ChangeContext
from perfloop.change.hard_limits import broken_limit
from perfloop.errors import ChangeRefused, PerfloopError, UndoFailed
from perfloop.loop.recover import announce, incident, undo_change
from perfloop.loop.signals import Masked, TermIsAnException
from perfloop.loop.watchdog import Watchdog
from perfloop.model.base import utc_now
from perfloop.model.change import Change, ChangeState, JournalEntry, Safety
from perfloop.model.config import Config
from perfloop.model.target import Environment
from perfloop.model.verdict import Verdict, VerdictStatus
from perfloop.store.audit import AuditLog
from perfloop.store.journal import LEASE_MAX_S, Journal
from perfloop.store.locks import me

_DECIDABLE = (ChangeState.VERIFIED, ChangeState.MEASURED)
_RENEW_EVERY_S = 1.0


class Guard:
    """Opens changes, one at a time for each target, with everything they need to be undone whatever happens."""

    def __init__(self, journal: Journal, audit: AuditLog, kinds: dict[str, ModuleType], context: ChangeContext, config: Config) -> None:
        self.journal, self.audit, self.kinds, self.config = journal, audit, kinds, config
        self.context = replace(context, image_dir=journal.images)
        self._watchdog: Watchdog | None = None

    @contextmanager
    def watched(self, target_url: str) -> Iterator[Watchdog]:
        """Holds the target, under one watchdog for all changes that are opened in the block one after the other; each has its own without it."""
        if self._watchdog:
            yield self._watchdog
            return
        with self.journal.lock(target_url):
            self._watchdog = Watchdog(self.journal.root, self._settings())
            try:
                yield self._watchdog
            finally:
                self._watchdog.dismiss()
                self._watchdog = None

    def _settings(self) -> dict[str, Any]:
        return {
            "user": self.config.user,
            "environment": self.context.environment,
            "change_ticket": self.config.changes.ticket,
            "incidents": self.config.incidents.model_dump(),
        }

    def open(self, change: Change, *, run_id: str, target_url: str) -> GuardedChange:
        """A context for one change; nothing happens before it is entered, nor to the target before ``apply``."""
        return GuardedChange(self, change, run_id, target_url)


class GuardedChange:
    """``with guard.open(change) as g: g.apply(); …; g.keep()``. Leaving without ``keep`` undoes: by an exception, Ctrl-C, SIGTERM or a closed generator."""

    def __init__(self, guard: Guard, change: Change, run_id: str, target_url: str) -> None:
        self._guard, self.change, self._run_id, self._target_url = guard, change, run_id, target_url
        self._journal, self._audit, self._context = guard.journal, guard.audit, guard.context
        self._stack = ExitStack()
        self._operation = ""
        self._verdict: Verdict | None = None
        self._applied_s = 0.0
        self._renewed_at = 0.0
        self._closed = True
        self._rehearsed = False

    def __enter__(self) -> Self:
        if self.change.kind not in self._guard.kinds or self.change.safety == Safety.SHOW:
            raise ChangeRefused(f"not applied: {self.change.title}", why=f"a change of kind {self.change.kind} is shown only", fix="make it by hand")
        self._kind = self._guard.kinds[self.change.kind]
        with ExitStack() as stack:
            self._watchdog = stack.enter_context(self._guard.watched(self._target_url))
            if left := self._journal.open_entries(self._target_url):
                raise ChangeRefused(
                    f"a change is still open on {self._target_url}",
                    why=f"{left[0].change.title} is {left[0].state}",
                    fix=f"perfloop rollback {left[0].change.id}",
                )
            stack.enter_context(TermIsAnException())
            self._journal.put(self._entry())
            self._journal.set_state(self.change.id, ChangeState.JOURNALLED)
            self._closed = False
            self._stack = stack.pop_all()
        return self

    def apply(self) -> None:
        """Makes the change and reads it back; ``ChangeRefused`` where it cannot be made (what it left is undone on the way out).

        Outside a sandbox it is undone at once and made again: a rehearsal before it is left on. In a sandbox, and where a change is costly to make, the
        first round of the proof is the rehearsal; none is kept without. A change that would break a hard limit is refused before anything of it is made.
        """
        if why := broken_limit(self.change, self._context):
            raise ChangeRefused(f"not applied: {self.change.title}", why=why, fix="choose a smaller value, or give it more memory")
        self._operation = self._begin(self._kind_operation(), "")
        started = time.monotonic()
        self._turn_on()
        self._applied_s = time.monotonic() - started
        if self._context.environment != Environment.SANDBOX and not getattr(self._kind, "COSTLY", False):
            self.toggle_off()
            self.toggle_on()

    def renew(self) -> None:
        """Says that we are alive and still measuring: to be called at least every ``limits.change_lease_s`` seconds; cheap to call more often."""
        self._watchdog.ensure()
        if time.monotonic() - self._renewed_at >= _RENEW_EVERY_S:
            self._renewed_at = time.monotonic()
            self._journal.renew(self.change.id, self._guard.config.limits.change_lease_s)

    def toggle_off(self) -> None:
        """Undoes it for a round, and reads back that it is off: a rehearsal of the undo. ``UndoFailed`` where that fails; the change is stuck then."""
        with Masked("switching it off for a round"):
            self._undo("a round of the proof without it", "")
            self._journal.set_state(self.change.id, ChangeState.JOURNALLED)
            self._lease()
        self._rehearsed = True

    def toggle_on(self) -> None:
        """Applies it again for a round, and reads it back."""
        operation = self._begin(self._kind_operation(), "switched on for a round of the proof")
        try:
            self._turn_on()
        except BaseException as error:
            self._end(operation, "failure", str(error) or type(error).__name__)
            raise
        self._end(operation, "success")

    def measured(self, verdict: Verdict) -> None:
        """Records the verdict; the audit line of the change will hold its figures."""
        self._verdict = verdict
        self._journal.set_state(self.change.id, ChangeState.MEASURED, expect=_DECIDABLE)
        self._lease()
        if verdict.status == VerdictStatus.REGRESSED and self._context.environment == Environment.PRODUCTION:
            self._incident("regression", f"it made {verdict.metric} worse: {self.change.title}", {"verdict": verdict.reason})

    def not_back(self, why: str) -> None:
        """Tells incident management that the old state is back, and the old performance is not."""
        self._incident("not-back", f"undone, but the service is not as it was: {self.change.title}", {"why": why})

    def keep(self) -> None:
        """Decides that it stays; ``ChangeRefused`` where the watchdog has undone it meanwhile. An undo that was never tried is tried first."""
        if not self._rehearsed:
            self.toggle_off()
            self.toggle_on()
        self._journal.set_state(self.change.id, ChangeState.KEPT, expect=_DECIDABLE)
        self._closed = True
        self._end(self._operation, "success", impact=_impact(self._verdict), note=f"applied in {self._applied_s:.1f} s, then measured")
        self._operation = ""

    def undo(self, reason: str) -> None:
        """Undoes it, verified, and ends the transaction; signals wait until it is done. ``UndoFailed`` names the commands to run by hand."""
        if self._closed:
            return
        with Masked("undoing it"):
            self._finish(reason)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._stack:
            if not self._closed:
                self.undo(f"{kind.__name__}: {error}" if kind else "not decided")

    def _finish(self, reason: str) -> None:
        try:
            if self._operation:
                self._undo(reason, self._operation)
            else:  # never applied
                self._journal.set_state(self.change.id, ChangeState.UNDONE, error=reason)
        finally:
            self._closed, self._operation = True, ""

    def _undo(self, reason: str, operation: str) -> None:
        try:
            after = undo_change(
                self.change.id, journal=self._journal, audit=self._audit, reason=reason, context=self._context, kinds=self._guard.kinds, again=True
            )
        except UndoFailed as error:
            self._end(self._operation, "failure", f"{reason}; {error.what}: {error.why}")
            self._closed, self._operation = True, ""
            entry = self._journal.get(self.change.id)
            if entry:
                announce(error, entry, self._journal.root, self._guard.config.incidents)
            raise
        kept = after.state == ChangeState.KEPT  # an interrupt came in the middle of keeping it
        self._end(operation, "success" if kept else "rolled_back", None if kept else reason, impact=_impact(self._verdict))

    def _turn_on(self) -> None:
        self._watchdog.ensure()
        self._journal.renew(self.change.id, LEASE_MAX_S)
        self._journal.set_state(self.change.id, ChangeState.APPLYING, expect=(ChangeState.JOURNALLED,), backend={})
        self._kind.apply(self.change, self._context, lambda backend: self._journal.note(self.change.id, backend))
        self._journal.set_state(self.change.id, ChangeState.APPLIED, expect=(ChangeState.APPLYING,))
        if not self._kind.verify(self.change, self._context):
            raise ChangeRefused(
                f"it did not take effect: {self.change.title}",
                why="read back, the new value is not there, or the service is not healthy",
                fix="look at the service's log",
            )
        self._journal.set_state(self.change.id, ChangeState.VERIFIED, expect=(ChangeState.APPLIED,))
        self._lease()

    def _incident(self, kind: str, summary: str, details: dict[str, Any]) -> None:
        entry = self._journal.get(self.change.id)
        if entry is not None:
            with suppress(PerfloopError):
                incident(
                    kind, summary, entry, self._journal.root, self._guard.config.incidents, {**details, "change_id": self.change.id, "target": entry.target_url}
                )

    def _lease(self) -> None:
        """Long enough for two rounds, which is what lies between two calls at most."""
        measure, limits = self._guard.config.measure, self._guard.config.limits
        self._journal.renew(self.change.id, min(LEASE_MAX_S, max(limits.change_lease_s, 2 * (measure.pairs_window_s + measure.settle_s + measure.timeout_s))))

    def _entry(self) -> JournalEntry:
        pid, started_s = me()
        return JournalEntry(
            change=self.change,
            state=ChangeState.PLANNED,
            target_url=self._target_url,
            run_id=self._run_id,
            project_dir=str(Path(self._context.base_dir).absolute()),
            environment=self._context.environment,
            owner_pid=pid,
            owner_started_s=started_s,
            updated_at=utc_now(),
        )

    def _kind_operation(self) -> str:
        return str(getattr(self._kind, "OPERATION", self.change.kind.replace("-", "_")))

    def _begin(self, operation: str, note: str) -> str:
        change = self.change
        return self._audit.begin(
            operation=operation,
            command=str(change.params.get("command") or "; ".join(change.apply_commands)),
            rollback_command=str(change.params.get("rollback_command") or "; ".join(change.undo_commands)) or None,
            resources=change.resources,
            run_id=self._run_id,
            note=note,
            subject=change.id,
        )

    def _end(self, operation: str, outcome: Any, error: str | None = None, impact: dict[str, Any] | None = None, note: str = "") -> None:
        if operation:
            self._audit.end(operation, outcome, error_detail=error, performance_impact=impact, note=note)


def _impact(verdict: Verdict | None) -> dict[str, Any] | None:
    """The figures of the audit format, from the verdict's measurements only; ``metric`` says what the times are of."""
    if verdict is None or verdict.before is None or verdict.after is None or verdict.ratio is None:
        return None
    return {
        "baseline_query_time_ms": round(verdict.before.value * 1000, 3),
        "optimized_query_time_ms": round(verdict.after.value * 1000, 3),
        "improvement_percent": round((1 - verdict.ratio.value) * 100, 1),
        "metric": verdict.metric,
        "verdict": verdict.status.value,
        "ratio_low": verdict.ratio.low,
        "ratio_high": verdict.ratio.high,
        "pairs": verdict.pairs,
    }
