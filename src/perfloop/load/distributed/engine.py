"""An engine whose shards run on other machines: looks like any other from the loop."""

from __future__ import annotations

import queue
import secrets
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from perfloop import __version__
from perfloop.errors import CannotMeasure, PerfloopError
from perfloop.load.distributed import shard
from perfloop.load.distributed.cluster import Machine, connect, machines
from perfloop.load.engines.base import End, Second
from perfloop.load.merge import merge_ends, merge_seconds
from perfloop.model.base import SCHEMA_VERSION
from perfloop.model.config import WorkersConfig
from perfloop.model.journey import Workload
from perfloop.model.loadtest import ShardReport
from perfloop.model.run import CheckSamples, HistogramData, JourneySamples, StepSamples
from perfloop.stats.histogram import Histogram

ID = "distributed"
LEAD_S = 2.0  # for all shards to be sent, imported and ready
TAKE_OVER_LEAD_S = 1.0
LOOK_EVERY_S = 0.5
GRACE_S = 20.0
_GONE = (OSError, TimeoutError, RuntimeError, ValueError)


@dataclass
class _Part:
    """One shard: where it runs, what it told, and what became of it."""

    id: str
    machine: Machine
    workload: Workload
    future: Any
    state: str = "running"
    note: str = ""
    told: deque[Second] = field(default_factory=deque)
    last_s: float = 0.0
    sent: int = 0
    ok: int = 0
    end: End | None = None


class Workers:
    """The engine ``distributed`` for one scheduler. ``reports`` says after a window what each machine did; a lost share is taken over by the others where ``take_over``."""

    ID = ID

    def __init__(self, address: str, files: WorkersConfig, take_over: bool = False) -> None:
        self._address, self._files, self._take_over = address, files, take_over
        self.reports: tuple[ShardReport, ...] = ()

    def available(self) -> str:
        """Empty: whether the cluster is there is only known by asking it."""
        return ""

    def run(self, workload: Workload) -> Generator[Second, None, End]:
        """Sends the workload from all workers; yields each second once every living shard has told it. Closing the generator stops all shards."""
        with _client(self._address, self._files) as client, _no_second_try(client):
            found = machines(client)
            topic, told = f"perfloop-{secrets.token_hex(8)}", queue.SimpleQueue[Any]()
            client.subscribe_topic(topic, lambda event: told.put(event[1]))
            start_s = time.time() + LEAD_S
            parts = [self._send(client, topic, part, machine, start_s) for part, machine in zip(workload.sharded(len(found)), found, strict=True)]
            try:
                return (yield from self._follow(client, topic, told, parts, workload, start_s))
            finally:
                with suppress(Exception):
                    client.cancel([part.future for part in parts if part.end is None], force=True)
                self.reports = tuple(_report(part, start_s) for part in parts)

    def _send(self, client: Any, topic: str, workload: Workload, machine: Machine, start_s: float) -> _Part:
        there: Workload = workload.with_(start_at_s=start_s + machine.offset_s, cpu=None, cpus=())
        name = secrets.token_hex(8)
        asked = {"shard": name, "topic": topic, "version": __version__, "schema": SCHEMA_VERSION}
        future = client.submit(
            shard.run_shard,
            there.model_dump_json(),
            asked,
            key=f"perfloop-shard-{name}",
            workers=[machine.address],
            allow_other_workers=False,
            retries=0,
            pure=False,
        )
        return _Part(name, machine, there, future)

    def _follow(
        self, client: Any, topic: str, told: queue.SimpleQueue[Any], parts: list[_Part], workload: Workload, start_s: float
    ) -> Generator[Second, None, End]:
        until_s = start_s + workload.duration_s + workload.timeout_s + GRACE_S
        looked_s = 0.0
        while any(part.state == "running" for part in parts):
            with suppress(queue.Empty):
                _take(parts, told.get(timeout=LOOK_EVERY_S))
            if time.time() - looked_s >= LOOK_EVERY_S:
                looked_s = time.time()
                for part in _lost(client, parts):
                    if self._take_over:
                        self._take_it_over(client, topic, part, parts, start_s)
            yield from _whole_seconds(parts, told)
            if time.time() > until_s:
                raise CannotMeasure("the workers did not end in time", fix="look at their logs")
        while not told.empty():
            _take(parts, told.get())
        left = [second for part in parts for second in part.told]
        if left:
            yield merge_seconds(left)
        ends = [part.end for part in parts if part.end is not None]
        if not ends:
            raise CannotMeasure(
                "no worker finished its share", why="; ".join(f"{part.machine.address}: {part.note}" for part in parts)[:500], fix="look at the workers' logs"
            )
        return merge_ends(ends)

    def _take_it_over(self, client: Any, topic: str, lost: _Part, parts: list[_Part], start_s: float) -> None:
        living = [part.machine for part in parts if part.state == "running"]
        from_s = time.time() - start_s + TAKE_OVER_LEAD_S
        if not living or from_s >= lost.workload.duration_s:
            return
        # the machine with the fewest shards takes the rest of it
        machine = min(living, key=lambda m: sum(part.machine is m for part in parts))
        rest: Workload = lost.workload.with_(shard=lost.workload.shard.with_(from_s=from_s))
        parts.append(self._send(client, topic, rest, machine, start_s))
        parts[-1].note = f"the rest of {lost.machine.address}, from {from_s:.1f} s"
        lost.note += f"; taken over by {machine.address} from {from_s:.1f} s"


@contextmanager
def _client(address: str, files: WorkersConfig) -> Iterator[Any]:
    client = connect(address, files)
    try:
        yield client
    finally:
        client.close(timeout=5)


@contextmanager
def _no_second_try(client: Any) -> Iterator[None]:
    """The scheduler sends no task a second time after its worker died, as long as the test runs."""
    before = client.run_on_scheduler(_allowed_failures, 0)
    try:
        yield
    finally:
        with suppress(Exception):
            client.run_on_scheduler(_allowed_failures, before)


def _allowed_failures(value: int, dask_scheduler: Any = None) -> int:
    before = int(dask_scheduler.allowed_failures)
    dask_scheduler.allowed_failures = value
    return before


def _take(parts: list[_Part], message: Any) -> None:
    """A second that a shard told; counted for it even where the shard is lost by now."""
    for part in parts:
        if part.id == message["shard"]:
            second = _second(message["second"])
            part.told.append(second)
            part.last_s = second.elapsed_s
            part.sent += sum(step.sent for step in second.steps)
            part.ok += sum(step.ok for step in second.steps)


def _lost(client: Any, parts: list[_Part]) -> list[_Part]:
    """Brings every shard's state up to date; returns those whose worker has just been lost. An error of the shard itself is raised: all shards would have it."""
    known = client.scheduler_info(n_workers=-1)["workers"]
    lost = []
    for part in parts:
        if part.state != "running":
            continue
        if part.future.status == "finished":
            part.end, part.state = _end(part.future.result()), "done"
        elif part.future.status == "error":
            error = part.future.exception()
            if isinstance(error, PerfloopError):
                raise error
            part.state, part.note = "lost", f"lost after {part.last_s:.1f} s: {type(error).__name__}"
            lost.append(part)
        elif part.machine.address not in known or part.future.status in ("lost", "cancelled"):
            part.state, part.note = "lost", f"lost after {part.last_s:.1f} s: the worker is gone"
            lost.append(part)
    return lost


def _whole_seconds(parts: list[_Part], told: queue.SimpleQueue[Any]) -> Iterator[Second]:
    """Seconds that every shard still running has told."""
    while not told.empty():
        _take(parts, told.get())
    while any(part.told for part in parts) and all(part.told or part.state != "running" for part in parts):
        now = [part.told.popleft() for part in parts if part.told]
        yield now[0] if len(now) == 1 else merge_seconds(now)


def _report(part: _Part, start_s: float) -> ShardReport:
    index, count = part.workload.shard.index, part.workload.shard.count
    lateness = Histogram.from_data(part.end.lateness).quantile(0.99) if part.end else None
    return ShardReport(
        worker=part.machine.address,
        rate_per_s=part.workload.rate_per_s / count,
        users=part.workload.shard.part(part.workload.users),
        state="stopped" if part.state == "running" else part.state,
        sent=part.sent,
        ok=part.ok,
        clock_offset_s=part.machine.offset_s,
        clock_error_s=part.machine.error_s,
        started_late_s=part.end.started_at - part.machine.offset_s - start_s if part.end else 0.0,
        lateness_p99_s=lateness or 0.0,
        note=f"part {index + 1} of {count}" + (f"; {part.note}" if part.note else ""),
    )


def _second(data: dict[str, Any]) -> Second:
    return Second(
        data["elapsed_s"],
        tuple(StepSamples.model_validate(step) for step in data["steps"]),
        tuple(JourneySamples.model_validate(journey) for journey in data["journeys"]),
        tuple(CheckSamples.model_validate(check) for check in data["checks"]),
        data["users"],
    )


def _end(data: dict[str, Any]) -> End:
    return End(
        **{
            **data,
            "lateness": HistogramData.model_validate(data["lateness"]),
            "arrived": tuple((b, c) for b, c in data["arrived"]),
            "answered": tuple((b, c) for b, c in data["answered"]),
        }
    )
