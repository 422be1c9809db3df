"""``perfloop stop``: the kill switch of running load."""

from __future__ import annotations

from perfloop.load.stop import generators, stop_load
from perfloop.model.replies import StopResult
from perfloop.model.requests import StopRequest


def stop(request: StopRequest) -> StopResult:
    """Ends it, and looks again: a run may have begun its next window in between. ``ok`` is False where load is left."""
    stopped = stop_load(request.run)
    for _ in range(3):
        if not generators(request.run):
            break
        stopped += stop_load(request.run)
    return StopResult(ok=not generators(request.run), stopped=stopped)
