"""``perfloop rollback``: undo what is open, kept or stuck, or print the commands that would."""

from __future__ import annotations

from pathlib import Path

from perfloop.context.config import load_config
from perfloop.errors import StorageError, UndoFailed, UsageError
from perfloop.host.secrets import resolve
from perfloop.loop.recover import roll_back, settle
from perfloop.model.change import ChangeState, JournalEntry
from perfloop.model.config import Config
from perfloop.model.replies import RollbackItem, RollbackResult
from perfloop.model.requests import RollbackRequest
from perfloop.store.audit import AuditLog
from perfloop.store.forward import Forwarder
from perfloop.store.journal import Journal


def rollback(request: RollbackRequest, cwd: Path | None) -> RollbackResult:
    """Undo one change, all of this machine, or what is open for the configured target; ``UndoFailed`` after trying all of them."""
    journal = Journal()
    chosen = _chosen(request, journal, cwd)
    if request.show:
        return RollbackResult(shown_only=True, items=tuple(_item(entry) for entry in chosen))
    loaded = load_config(request.config or None, cwd or Path.cwd())
    config = loaded.config
    if request.settled:
        return _settled(request, journal, config)
    items: list[RollbackItem] = []
    failed: list[UndoFailed] = []
    lost: StorageError | None = None
    for entry in chosen:  # newest first: later changes stand on earlier ones
        audit = AuditLog(user=config.user, environment=entry.environment, change_ticket=config.changes.ticket or None)
        try:
            after = roll_back(entry.change.id, journal=journal, audit=audit)
            items.append(_item(after, verified=after.state == ChangeState.UNDONE))
        except UndoFailed as error:
            failed.append(error)
            items.append(_item(entry, verified=False, error=error.what))
        except StorageError as error:  # undone, but the disk takes no record: the others are undone all the same
            lost = error
    if lost and not failed:
        raise lost
    Forwarder(journal.root).flush(config.incidents, lambda reference: resolve(reference, loaded.base_dir))
    if failed:
        raise UndoFailed(
            "; ".join(error.what for error in failed),
            why="; ".join(error.why for error in failed if error.why),
            commands=tuple(command for error in failed for command in error.commands),
        )
    return RollbackResult(items=tuple(items))


def _settled(request: RollbackRequest, journal: Journal, config: Config) -> RollbackResult:
    """Closes one stuck change that a person has put right; nothing is touched."""
    if not request.change:
        raise UsageError(
            "--settled needs the id of one change", fix="perfloop rollback CHANGE --settled --reason TEXT; perfloop rollback --all --show lists them"
        )
    entry = journal.get(request.change)
    audit = AuditLog(user=config.user, environment=entry.environment if entry else "sandbox", change_ticket=config.changes.ticket or None)
    after = settle(request.change, journal=journal, audit=audit, reason=request.reason or "put right by hand")
    return RollbackResult(items=(_item(after),))


def _chosen(request: RollbackRequest, journal: Journal, cwd: Path | None) -> list[JournalEntry]:
    if request.change:
        entry = journal.get(request.change)
        if entry is None:
            raise UsageError(f"the journal does not know the change {request.change}", fix="perfloop rollback --all --show lists what it knows")
        return [entry]
    if request.all:
        return [entry for entry in journal.entries() if entry.state not in (ChangeState.UNDONE, ChangeState.PLANNED)]
    url = load_config(request.config or None, cwd or Path.cwd()).config.target.url
    return list(journal.open_entries(url or None))


def _item(entry: JournalEntry, verified: bool | None = None, error: str = "") -> RollbackItem:
    return RollbackItem(
        change_id=entry.change.id,
        title=entry.change.title,
        state=entry.state.value,
        verified=verified,
        commands=entry.change.undo_commands,
        error=error or entry.error,
    )
