"""The audit log: one JSON line before and one after each operation, chained by hashes and sealed by a key, in daily segments.

Segments are ``audit-YYYYMMDD-NNN.jsonl``. ``head.json`` (0600) holds how many lines there are and the hash of the last one, so that a cut
end is found too; each line and the head carry a MAC by the key beside the folder (or elsewhere: ``PERFLOOP_AUDIT_KEY``), so that nobody without it can write the chain anew; ``open/`` holds the operations that have not ended, with their owner, so that a killed one gets its end line later.
"""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

from perfloop.errors import StorageError
from perfloop.host.clocks import boot_id, boot_s
from perfloop.host.files import read_limited, storage_error, write_atomic
from perfloop.host.secrets import redact
from perfloop.model.audit import AuditEvent
from perfloop.model.base import utc_now
from perfloop.store import keys, locks, segments
from perfloop.store.appending import Appender
from perfloop.store.chain import key_id
from perfloop.store.paths import private_dir, state_dir

#: lines among which the begin of an open operation is looked for
_NEWEST = 10_000
Outcome = Literal["success", "failure", "rolled_back"]


class AuditLog:
    """Appends to the log, reads it and checks it. Safe from several processes; each line is on disk when the call returns."""

    def __init__(
        self, root: Path | None = None, *, user: str = "performance-engineer-agent", environment: str = "sandbox", change_ticket: str | None = None
    ) -> None:
        self.folder = private_dir(state_dir(root) / "audit")
        self._open = private_dir(self.folder / "open")
        self._end_of_log = Appender(self.folder, keys.key_file(self.folder.parent))
        self._user, self._environment, self._change_ticket = user, environment, change_ticket

    def begin(
        self,
        *,
        operation: str,
        command: str,
        resources: Sequence[str] = (),
        rollback_command: str | None = None,
        run_id: str = "",
        note: str = "",
        subject: str = "",
    ) -> str:
        """Writes the ``in_progress`` line of an operation and returns its id; ``subject`` is the change it belongs to, for :meth:`close_abandoned`."""
        operation_id = f"op-{uuid.uuid4().hex[:16]}"
        event = AuditEvent(
            timestamp=utc_now(),
            user=self._user,
            change_ticket=self._change_ticket or None,
            environment=self._environment,
            operation=operation,
            command=command,
            outcome="in_progress",
            resources_affected=tuple(resources),
            rollback_available=bool(rollback_command),
            rollback_command=rollback_command or None,
            operation_id=operation_id,
            run_id=run_id,
            note=note,
        )
        fields = event.model_dump(mode="json")
        fields |= _redacted({name: fields[name] for name in ("user", "change_ticket", "command", "resources_affected", "rollback_command", "note")})
        pid, started_s = locks.me()
        record = {"pid": pid, "started_s": started_s, "began_boot_s": boot_s(), "subject": subject, "event": fields}
        _write_new(self._open / f"{operation_id}.json", json.dumps(record).encode())
        self._end_of_log.append(fields)
        return operation_id

    def end(
        self,
        operation_id: str,
        outcome: Outcome,
        *,
        error_detail: str | None = None,
        performance_impact: dict[str, Any] | None = None,
        load_test_results: dict[str, Any] | None = None,
        note: str = "",
    ) -> AuditEvent:
        """Writes the line that says how the operation ended; a failure needs ``error_detail``. ``StorageError`` for an operation that is not open."""
        path = self._open / f"{operation_id}.json"
        record = _load(path)
        if outcome == "failure" and not error_detail:
            error_detail = "no detail was given"
        told: dict[str, Any] = {"error_detail": error_detail, "performance_impact": performance_impact, "load_test_results": load_test_results}
        told |= {"note": note} if note else {}
        took_s = round(boot_s() - record["began_boot_s"], 3) if "began_boot_s" in record else None
        fields = record["event"] | _redacted(told) | {"timestamp": utc_now(), "outcome": outcome, "duration_seconds": took_s}
        written = self._append(AuditEvent.model_validate(fields))
        path.unlink(missing_ok=True)
        return written

    def close_abandoned(self, *, rolled_back: Collection[str] = ()) -> tuple[str, ...]:
        """Ends the operations whose process is gone: ``rolled_back`` where their subject was undone, else ``failure``; returns their ids."""
        closed = []
        with locks.held(self.folder / "abandoned.lock", what="the audit log"):
            self._sweep()
            self._after_power_cut()
            for path in sorted(self._open.glob("op-*.json")):
                try:
                    record = _load(path)
                except StorageError:
                    if self._began(path.stem):
                        raise
                    path.unlink(missing_ok=True)  # half a record: its process died before the operation began
                    continue
                if locks.alive(record["pid"], record["started_s"]):
                    continue
                if self._ended(path.stem):
                    path.unlink(missing_ok=True)
                    continue
                if not self._began(path.stem):
                    self._append(AuditEvent.model_validate(record["event"]))
                undone = record["subject"] in rolled_back
                who = f"process {record['pid']}" if record["pid"] else "the machine"
                detail = f"{who} ended before the operation did" + ("; the change was rolled back" if undone else "")
                self.end(path.stem, "rolled_back" if undone else "failure", error_detail=detail)
                closed.append(path.stem)
        return tuple(closed)

    def entries(self, limit: int = 100) -> tuple[AuditEvent, ...]:
        """The newest ``limit`` lines, oldest of them first; lines that cannot be read are left out (``verify`` names them)."""
        return tuple(AuditEvent.model_validate(record) for record in segments.newest(self.folder, limit))

    def verify(self, anchors: Sequence[str] = ()) -> tuple[str, ...]:
        """What is wrong with the log (edited, removed, moved, cut or rewritten lines, operations without an end), one sentence each; empty when it is whole.

        ``anchors`` are what :meth:`anchor` told at other times and was kept elsewhere; those of another log (another key) are not looked at.
        """
        with self._end_of_log.locked():
            key = self._end_of_log.key()
            named = dict(keys.parsed(anchor)[1:] for anchor in anchors if keys.parsed(anchor)[0] == key_id(key))
            problems = segments.problems(self.folder, key, named)
        abandoned = [path.stem for path in self._open.glob("op-*.json") if not _living(path)]
        return problems + tuple(
            f"operation {name} has no end line: its process is gone (the next command that changes something writes it)" for name in abandoned
        )

    def head(self) -> str:
        """The hash of the last line."""
        return segments.read_head(self.folder).hash

    def anchor(self) -> str:
        """``key:lines:hash``, to be kept elsewhere: no log can witness that it was set back to an earlier state, or replaced with its key."""
        with self._end_of_log.locked():
            key = self._end_of_log.key()
            head = segments.read_head(self.folder)
        return f"{key_id(key)}:{head.count}:{head.hash}"

    def signed(self) -> dict[str, str]:
        """The anchor with a signature that anybody can check who has the public key; empty where no signing key was made (``perfloop log --make-key``)."""
        return keys.signed(self.folder.parent, self.anchor())

    def prune(self, keep_days: int = 90) -> int:
        """Deletes whole segments older than ``keep_days`` (at least 90) and remembers where the chain goes on; returns how many."""
        with self._end_of_log.locked():
            return segments.prune(self.folder, max(keep_days, 90), self._end_of_log.key())

    def _append(self, event: AuditEvent) -> AuditEvent:
        return AuditEvent.model_validate(self._end_of_log.append(event.model_dump(mode="json")))

    def _sweep(self) -> None:
        """What a kill in the middle of replacing the head record left."""
        with self._end_of_log.locked():
            for leftover in self.folder.glob(".head.json.*.new"):
                leftover.unlink(missing_ok=True)

    def _after_power_cut(self) -> None:
        """Once after each start of the machine: what had begun then and has no record, because that is not flushed to the disk one by one, gets one from its line."""
        mark, boot = self.folder / "boot", boot_id()
        if boot and mark.exists() and mark.read_text() == boot:
            return
        begun: dict[str, dict[str, Any]] = {}
        for line in segments.newest(self.folder, _NEWEST):
            name = str(line.get("operation_id", ""))
            if line.get("outcome") == "in_progress":
                begun[name] = line
            else:
                begun.pop(name, None)
        for name, line in begun.items():
            path = self._open / f"{name}.json"
            try:
                _load(path)
            except StorageError:  # none, or one that was cut
                record = {"pid": 0, "started_s": 0.0, "subject": "", "event": line}
                write_atomic(path, json.dumps(record).encode(), mode=0o600)
        write_atomic(mark, boot.encode(), mode=0o600)

    def _ended(self, operation_id: str) -> bool:
        return any(record.get("operation_id") == operation_id and record.get("outcome") != "in_progress" for record in segments.newest(self.folder, _NEWEST))

    def _began(self, operation_id: str) -> bool:
        return any(record.get("operation_id") == operation_id for record in segments.newest(self.folder, _NEWEST))


def _write_new(path: Path, data: bytes) -> None:
    """A new file; one that is cut off by a kill is recognised as such. A power cut may lose it: its line in the log, which is on the disk, stands for it then."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise storage_error(error, path, "write") from None


def _living(path: Path) -> bool:
    try:
        record = _load(path)
    except StorageError:
        return False
    return locks.alive(record["pid"], record["started_s"])


def _load(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(read_limited(path, 2**20))
        assert {"pid", "started_s", "subject", "event"} <= record.keys()
    except (ValueError, AssertionError, AttributeError) as error:
        raise StorageError(
            f"the record of an open operation is damaged: {path}", why=str(error) or "fields are missing", fix=f"look at it, then delete it: rm {path}"
        ) from None
    return dict(record)


def _redacted(value: Any) -> Any:
    """Secrets out of every text, at any depth, before it is hashed: the hash of a short secret would give it away."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: _redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    return value
