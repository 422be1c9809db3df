"""Undoes what is open: for the watchdog, for the guard, and for the next command after the machine itself went down. Safe to repeat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from perfloop.change.base import ChangeContext
from perfloop.errors import ChangeRefused, PerfloopError, StorageError, UndoFailed, UsageError
from perfloop.host.secrets import resolve
from perfloop.loop import plugins
from perfloop.model.change import ChangeState, JournalEntry
from perfloop.model.config import Config, IncidentsConfig
from perfloop.store.audit import AuditLog
from perfloop.store.forward import Forwarder
from perfloop.store.journal import Journal
from perfloop.store.locks import alive, me

#: an undo that takes longer is stuck
UNDO_MAX_S = 300.0
#: states in which the change certainly has no effect any more
_WITHOUT_EFFECT = (ChangeState.PLANNED, ChangeState.UNDONE)


def recover(target_url: str | None, *, journal: Journal, audit: AuditLog, incidents: IncidentsConfig | None = None) -> list[str]:
    """Undoes every change of the target (of all targets for None) whose perfloop is gone, newest first; one line for each.

    ``ChangeRefused`` where a living perfloop has a change open there; ``UndoFailed`` with the commands to run by hand where an undo does not verify.
    """
    told: list[str] = []
    undone: list[str] = []
    stuck: list[UndoFailed] = []
    lost: StorageError | None = None
    for entry in journal.open_entries(target_url):
        if entry.state != ChangeState.STUCK and (entry.owner_pid, entry.owner_started_s) != me() and alive(entry.owner_pid, entry.owner_started_s):
            raise ChangeRefused(
                f"another perfloop (process {entry.owner_pid}) has a change open on {entry.target_url}",
                why=entry.change.title,
                fix="wait until it has ended, then run this again",
            )
        try:
            after = undo_change(entry.change.id, journal=journal, audit=audit, reason="an earlier run ended before it was decided")
        except UndoFailed as error:
            stuck.append(error)
            announce(error, entry, journal.root, incidents)
            continue
        except StorageError as error:  # undone, but the disk takes no record: the others are undone all the same
            lost = error
            continue
        if after.state == ChangeState.UNDONE:
            undone.append(entry.change.id)
            told.append(f"undone: {entry.change.title} (left open by process {entry.owner_pid}, run {entry.run_id or 'unknown'})")
    if not lost:
        audit.close_abandoned(rolled_back=undone)
    if stuck:
        raise UndoFailed(
            "; ".join(error.what for error in stuck),
            why="; ".join(error.why for error in stuck),
            commands=tuple(command for error in stuck for command in error.commands),
        )
    if lost:
        raise lost
    return told


def warn_others(journal: Journal, target_url: str) -> list[str]:
    """One line for each change that is open on another target and has no living perfloop, with the command that undoes it."""
    mine = {entry.change.id for entry in journal.open_entries(target_url)}
    return [
        f"a change is open on {entry.target_url}: {entry.change.title} ({entry.state}); undo it: perfloop rollback {entry.change.id}"
        for entry in journal.open_entries()
        if entry.change.id not in mine and (entry.state == ChangeState.STUCK or not alive(entry.owner_pid, entry.owner_started_s))
    ]


def roll_back(change_id: str, *, journal: Journal, audit: AuditLog, reason: str = "asked for") -> JournalEntry:
    """Undoes one change, also one that was kept; ``UsageError`` where the journal does not know it, ``UndoFailed`` where it does not verify."""
    entry = journal.get(change_id)
    if entry is None:
        raise UsageError(f"the journal does not know the change {change_id}", fix="list what it knows: perfloop log")
    if (
        entry.state.open
        and entry.state != ChangeState.STUCK
        and (entry.owner_pid, entry.owner_started_s) != me()
        and alive(entry.owner_pid, entry.owner_started_s)
    ):
        raise ChangeRefused(f"process {entry.owner_pid} is working with {change_id}", fix=f"stop it (kill -INT {entry.owner_pid}): it undoes the change itself")
    after = undo_change(change_id, journal=journal, audit=audit, reason=reason, kept_too=True)
    audit.close_abandoned(rolled_back=[change_id])
    return after


def settle(change_id: str, *, journal: Journal, audit: AuditLog, reason: str) -> JournalEntry:
    """Closes a stuck change that a person has put right by hand; nothing is touched. ``UsageError`` where it is not stuck."""
    entry = journal.get(change_id)
    if entry is None or entry.state != ChangeState.STUCK:
        raise UsageError(
            f"{change_id} is not stuck", why=f"it is {entry.state}" if entry else "the journal does not know it", fix="list what it knows: perfloop log"
        )
    operation = audit.begin(
        operation="settled_by_hand", command=f"settle {change_id}", resources=entry.change.resources, run_id=entry.run_id, note=reason, subject=change_id
    )
    after = journal.set_state(change_id, ChangeState.UNDONE, error=f"settled by hand: {reason}", expect=(ChangeState.STUCK,))
    audit.end(operation, "success", note=reason)
    end_incident(entry, journal.root, f"settled by hand: {entry.change.title}: {reason}")
    return after


def undo_change(
    change_id: str,
    *,
    journal: Journal,
    audit: AuditLog,
    reason: str,
    context: ChangeContext | None = None,
    kinds: Mapping[str, ModuleType] | None = None,
    kept_too: bool = False,
    again: bool = False,
) -> JournalEntry:
    """Cancels what of the change still runs, undoes it and reads that back; returns the entry as it is then, also when somebody else had undone it.

    ``again``: an undone change is undone once more (a perfloop that hung may have applied it after its watchdog undid it).
    A disk that is full costs the record, never the undo: then ``StorageError`` is raised after it.
    """
    with journal.undo_lock(change_id, timeout_s=UNDO_MAX_S):
        entry = journal.get(change_id)
        if entry is None:
            raise StorageError(f"the journal does not know the change {change_id}", fix="look into the journal's folder")
        if (entry.state in _WITHOUT_EFFECT and not again) or (entry.state == ChangeState.KEPT and not kept_too):
            return entry
        record = _Record(journal, audit, entry)
        record.begin(reason)
        context = context or _context_of(entry, journal)
        kind = (kinds or plugins.load("change kind")).get(entry.change.kind)
        why = _undone_or_why(kind, record.entry, context) if kind else f"no change kind {entry.change.kind} is installed"
        record.end(why)
        if why:
            raise UndoFailed(
                f"could not undo: {entry.change.title}",
                why=why,
                hint=f"once it is put right by hand: perfloop rollback {change_id} (where the old value is back), or perfloop rollback {change_id} --settled (where another one is right)",
                commands=entry.change.undo_commands,
            )
        end_incident(entry, journal.root, f"undone: {entry.change.title}")
        if record.lost:
            raise StorageError(
                f"undone, but not recorded: {entry.change.title}", why=record.lost, fix="free some space under the state directory, then run perfloop rollback"
            )
        return journal.get(change_id) or entry


class _Record:
    """The journal and audit lines of one undo. What cannot be written is remembered, and never stops the undo."""

    def __init__(self, journal: Journal, audit: AuditLog, entry: JournalEntry) -> None:
        self.journal, self.audit, self.entry = journal, audit, entry
        self.operation = self.lost = ""

    def begin(self, reason: str) -> None:
        change = self.entry.change
        self._try(lambda: self._state(ChangeState.UNDOING))
        self._try(lambda: self.journal.renew(change.id, UNDO_MAX_S))
        self._try(lambda: self._audited(reason))

    def end(self, why: str) -> None:
        self._try(lambda: self._state(ChangeState.STUCK if why else ChangeState.UNDONE, why))
        if self.operation:
            self._try(lambda: self.audit.end(self.operation, "failure" if why else "rolled_back", error_detail=why or None))

    def _state(self, state: ChangeState, error: str = "") -> None:
        self.entry = self.journal.set_state(self.entry.change.id, state, error=error)

    def _audited(self, reason: str) -> None:
        change = self.entry.change
        command = str(change.params.get("rollback_command") or "; ".join(change.undo_commands))
        self.operation = self.audit.begin(
            operation="rollback", command=command, resources=change.resources, run_id=self.entry.run_id, note=reason, subject=change.id
        )

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except StorageError as error:
            self.lost = f"{error.what}: {error.why}"


def _undone_or_why(kind: ModuleType, entry: JournalEntry, context: ChangeContext) -> str:
    """Runs cancel, undo and the read-back in a thread, so that the time limit holds whatever they do; empty where the old state is back."""

    def work() -> bool:
        kind.cancel(entry.change, entry.backend, context)
        kind.undo(entry.change, context)
        return bool(kind.verify_undone(entry.change, context))

    executor = ThreadPoolExecutor(1, thread_name_prefix="undo")
    future = executor.submit(work)
    try:
        error = future.exception(timeout=UNDO_MAX_S)
    except TimeoutError:
        return f"it did not finish within {UNDO_MAX_S:g} s"
    finally:
        executor.shutdown(wait=False)
    if isinstance(error, PerfloopError):
        return f"{error.what}: {error.why}" if error.why and not isinstance(error, UndoFailed) else error.why or error.what
    if error is not None:
        return f"{type(error).__name__}: {error}"
    return "" if future.result() else "after the undo, the old value could not be read back, or the service is not healthy"


def _context_of(entry: JournalEntry, journal: Journal) -> ChangeContext:
    return ChangeContext(base_dir=Path(entry.project_dir), config=Config(), resolve=resolve, environment=entry.environment, image_dir=journal.images)


def announce(error: UndoFailed, entry: JournalEntry, root: Path, incidents: IncidentsConfig | None) -> None:
    """Spools the event of a failed undo, and delivers it where a receiver is configured; a full disk must not hide the error itself."""
    with suppress(PerfloopError):
        details: dict[str, object] = {"change_id": entry.change.id, "target": entry.target_url, "why": error.why, "commands": list(error.commands)}
        incident("undo-failed", error.what, entry, root, incidents, details)


def incident(kind: str, summary: str, entry: JournalEntry, root: Path, incidents: IncidentsConfig | None, details: dict[str, object]) -> None:
    """Begins an incident about a change; its undo ends it under the same key. The event anchors the audit log."""
    forwarder = Forwarder(root)
    anchored = details | {"environment": entry.environment, "run_id": entry.run_id, "audit_anchor": AuditLog(root).anchor()}
    forwarder.enqueue(kind, summary, dedup_key=dedup_key(entry.change.id), details=anchored)
    forwarder.flush(incidents or IncidentsConfig(), resolve, tries=3)


def end_incident(entry: JournalEntry, root: Path, summary: str, incidents: IncidentsConfig | None = None) -> None:
    """Ends what :func:`incident` began, if anything; a disk or receiver that does not take it is no reason to fail."""
    with suppress(PerfloopError):
        forwarder = Forwarder(root)
        if forwarder.resolve(dedup_key(entry.change.id), summary, {"change_id": entry.change.id, "target": entry.target_url}):
            forwarder.flush(incidents or IncidentsConfig(), resolve)


def dedup_key(change_id: str) -> str:
    """One key for a change, its regression, its failed undo and its end."""
    return f"perfloop-{change_id}"
