"""``perfloop stop``: the kill switch of running load."""

from __future__ import annotations

from perfloop.load.stop import generators, stop_load
from perfloop.model.replies import StopResult
from perfloop.model.requests import StopRequest
from perfloop.store.audit import AuditLog


def stop(request: StopRequest) -> StopResult:
    """Ends it, and looks again: a run may have begun its next window in between. ``ok`` is False where load is left. The load ends first, then the log is written."""
    stopped = stop_load(request.run)
    for _ in range(3):
        if not generators(request.run):
            break
        stopped += stop_load(request.run)
    result = StopResult(ok=not generators(request.run), stopped=stopped)
    if stopped or not result.ok:
        _log(result, request.run)
    return result


def _log(result: StopResult, run: str) -> None:
    audit = AuditLog()
    operation = audit.begin(
        operation="load_test_stop",
        command=f"perfloop stop {run}".strip(),
        resources=tuple(dict.fromkeys(f"run:{item.run_id or 'none'}" for item in result.stopped)),
        run_id=run,
        note="; ".join(f"process {item.pid}: {item.how}" for item in result.stopped),
    )
    audit.end(operation, "success" if result.ok else "failure", error_detail=None if result.ok else "load still runs: it belongs to another user")
