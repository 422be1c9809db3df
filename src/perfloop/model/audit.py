"""One operation, as the audit log holds it. The fields are a contract: more may be added, none renamed."""

from __future__ import annotations

from typing import Any, Literal

from perfloop.model.base import SCHEMA_VERSION, Word


class AuditEvent(Word):
    """A line of the audit log: one before an operation starts (``in_progress``) and one after it ended."""

    timestamp: str
    user: str
    change_ticket: str | None
    environment: str
    operation: str
    command: str
    outcome: Literal["in_progress", "success", "failure", "rolled_back"]
    resources_affected: tuple[str, ...] = ()
    rollback_available: bool = False
    rollback_command: str | None = None
    duration_seconds: float | None = None
    error_detail: str | None = None
    performance_impact: dict[str, Any] | None = None
    load_test_results: dict[str, Any] | None = None
    # added to the contract by perfloop
    schema_version: Literal[1] = SCHEMA_VERSION
    operation_id: str = ""
    run_id: str = ""
    note: str = ""  # a safeguard that does not exist here, skipped and noted
    sequence: int = 0
    previous_hash: str = ""
    hash: str = ""
    mac: str = ""  # of the hash, by the key of this machine's log
