"""One shard, on the worker: what it refuses, and the engine in a child process whose seconds it passes on. Runs in the worker's process, from the worker's own perfloop."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from perfloop import __version__
from perfloop.errors import CannotMeasure, UsageError
from perfloop.load.engines import database, http
from perfloop.load.engines.base import End, Second
from perfloop.load.targets import check_allowed
from perfloop.model.base import SCHEMA_VERSION
from perfloop.model.journey import Workload
from perfloop.model.limits import is_store

ALLOW_HOSTS = "PERFLOOP_ALLOW_HOSTS"  # on the worker: its own list, by commas
LATE_MAX_S = 0.5
#: shards that this process has begun: none runs twice, whatever a scheduler does
_begun: set[str] = set()


def about() -> dict[str, Any]:
    """What must be the same on all machines, and the clock."""
    return {"version": __version__, "schema": SCHEMA_VERSION, "python": list(sys.version_info[:2]), "pid": os.getpid(), "now_s": time.time()}


def clock() -> float:
    """This machine's time, in seconds since the epoch."""
    return time.time()


def run_shard(text: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Sends one shard; every second goes to the topic ``asked["topic"]`` as it comes, the end is returned.

    ``UsageError`` where this worker's own allow-list does not hold the target, or the versions differ; ``CannotMeasure`` for a shard that comes too late or a second time.
    """
    from distributed import get_worker, secede

    if (asked["version"], asked["schema"]) != (__version__, SCHEMA_VERSION):
        raise UsageError(
            f"this worker has perfloop {__version__}, the client {asked['version']}",
            why="results of different versions are not merged",
            fix="install the same version on all machines",
        )
    workload = Workload.model_validate_json(text)
    check_allowed(workload.base_url, [host for host in os.environ.get(ALLOW_HOSTS, "").split(",") if host])
    begins_s = (workload.start_at_s or 0.0) + workload.shard.from_s
    if time.time() > begins_s + LATE_MAX_S:
        raise CannotMeasure(
            "this shard came too late to begin with the others", why="it may have been sent again; a load test must not be", fix="run the test again"
        )
    if asked["shard"] in _begun:
        raise CannotMeasure("this shard was sent a second time", why="a load test must not be", fix="run the test again")
    _begun.add(asked["shard"])
    worker = get_worker()
    key = worker.get_current_task()
    secede()  # type: ignore[no-untyped-call]  # the pool's thread is free for the share of a worker that is lost
    load = (database if is_store(workload.base_url) else http).run(workload)
    try:
        while True:
            try:
                second = next(load)
            except StopIteration as stop:
                end: End = stop.value
                return end_to_json(end)
            state = worker.state.tasks.get(key)
            if state is None or state.state not in ("executing", "long-running"):
                raise CannotMeasure("this shard was stopped", why="its client took it back, or is gone")
            worker.log_event(asked["topic"], {"shard": asked["shard"], "second": second_to_json(second)})
    finally:
        load.close()


def second_to_json(second: Second) -> dict[str, Any]:
    """A second as plain values."""
    return {
        "elapsed_s": second.elapsed_s,
        "steps": [step.model_dump(mode="json") for step in second.steps],
        "journeys": [journey.model_dump(mode="json") for journey in second.journeys],
        "checks": [check.model_dump(mode="json") for check in second.checks],
        "users": second.users,
    }


def end_to_json(end: End) -> dict[str, Any]:
    """An end as plain values."""
    return {**asdict(end), "lateness": end.lateness.model_dump(mode="json")}
