"""A performance test of one kind: the target, its data, the load of that kind, and its answer. The order of a test on one screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import cast

from perfloop.change.base import ChangeContext
from perfloop.change.kinds import test_data
from perfloop.errors import CannotMeasure, Interrupted, UsageError
from perfloop.host.secrets import resolve
from perfloop.load.distributed.engine import Workers
from perfloop.load.hooks import prepared
from perfloop.load.run import Progress
from perfloop.load.summary import summarize
from perfloop.loop import deliver, load_kinds, load_shapes, plugins, prepare
from perfloop.loop.guard import Guard, GuardedChange
from perfloop.loop.prepare import Session, deliver_load
from perfloop.loop.sources import Source, source_of
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.finding import Proposal
from perfloop.model.limits import is_store
from perfloop.model.loadtest import HookRun, LoadKind, LoadTest
from perfloop.model.requests import LoadRequest
from perfloop.model.result import RunResult
from perfloop.model.target import Environment

Kind = Callable[["Test"], Generator[Event, None, LoadTest]]


@dataclass
class Test:
    """One test: what was asked, the session, and what its hooks did."""

    session: Session
    request: LoadRequest
    hooks: list[HookRun] = field(default_factory=list)
    source: Source | None = None
    workers: Workers | None = None
    guarded: GuardedChange | None = None
    running: Progress | None = None  # the window of now, or the last one

    def see(self, _label: str, progress: Progress) -> None:
        """Keeps what is known of the window that runs, for a stop in its middle."""
        self.running = progress

    def keep_partial(self) -> None:
        """The window that was broken off joins those that are stored, so that a stop at any time keeps what was measured."""
        session = self.session
        known = session.result.load_test or LoadTest(kind=self.request.kind)
        window = self.running.so_far() if self.running is not None else None
        windows = known.windows
        if window is not None and any(step.sent for step in window.steps) and window.started_at not in {one.started_at for one in windows}:
            windows = (*windows, window)
        if windows:
            summary = summarize("interrupted", windows)
            session.put(
                load_test=known.with_(ok=None, answer="interrupted before its end: these are the figures so far", windows=windows),
                before=summary,
                before_windows=windows,
                rate_per_s=summary.rate_per_s,
            )

    @contextmanager
    def data(self, size: float | None = None) -> Iterator[None]:
        """The test data are there inside the block and removed after it, by the hooks; nothing where there are none."""
        session = self.session
        if not (session.config.hooks.set_up or session.config.hooks.tear_down):
            yield
            return
        if session.policy.needs_ticket and not (session.config.changes.ticket and session.config.changes.approved_by):
            raise UsageError("in production test data need a ticket and an approval", fix="set changes.ticket and changes.approved_by, or leave out [hooks]")
        context = ChangeContext(
            base_dir=session.base_dir,
            config=session.config,
            resolve=lambda reference: resolve(reference, session.base_dir),
            environment=session.policy.environment.value,
        )
        change = test_data.plan(Proposal(kind=test_data.ID, title="", params={"size": size}), context)
        guard = Guard(session.journal, session.audit, plugins.load("change kind"), context, session.config)
        started = time.monotonic()
        try:
            with guard.open(change, run_id=session.result.run_id, target_url=session.config.target.url) as guarded:
                guarded.apply()
                self._ran("set_up", change.params["set_up"], started)
                self.guarded = guarded
                try:
                    yield
                finally:
                    self.guarded, started = None, time.monotonic()
        finally:
            self._ran("tear_down", change.params["tear_down"], started)

    def _ran(self, name: str, command: str, started: float) -> None:
        if command:
            self.hooks.append(HookRun(name=name, command=command, exit_code=0, duration_s=round(time.monotonic() - started, 3)))

    def alive(self, events: Generator[Event, None, LoadTest]) -> Generator[Event, None, LoadTest]:
        """Passes events on, and tells the watchdog with each that the test goes on."""
        while True:
            try:
                event = next(events)
            except StopIteration as stop:
                answer: LoadTest = stop.value
                return answer
            if self.guarded is not None:
                self.guarded.renew()
            try:
                yield event
            except BaseException:
                events.close()
                raise


def load(session: Session, request: LoadRequest) -> Generator[Event, None, RunResult]:
    """Understand the target, prepare its data, send the load of the kind, remove the data, and answer; partial results are kept on any stop."""
    test = Test(session, request)
    try:
        yield from prepare.understand(session)
        session.meter.watch = test.see
        yield from arranged(test)
        yield PhaseStarted(phase=request.kind.value, detail=load_kinds.KINDS[request.kind][1], left_s=session.meter.left_s)
        with scripted(test):
            answer = yield from audited(test)
        if test.workers is not None:
            answer = answer.with_(shards=test.workers.reports)
        session.put(load_test=answer.with_(hooks=tuple(test.hooks), repeatable=load_shapes.repeatable(test)), ok=answer.ok is not False)
        yield Told(level={True: "good", False: "bad", None: "warning"}[answer.ok], text=answer.answer)
    except (KeyboardInterrupt, Interrupted):
        test.keep_partial()
        return deliver.finish(session, "interrupted")
    finally:
        if test.hooks and session.result.load_test is not None:
            session.put(load_test=session.result.load_test.with_(hooks=tuple(test.hooks)))
    if not all(window.generator_ok for window in answer.windows) and answer.ok is None:
        worst = max(window.lateness_p99_s for window in answer.windows)
        raise CannotMeasure(
            "the generator was the bottleneck, so there is no verdict",
            why=f"it sent late by {worst * 1000:.1f} ms at p99",
            fix="lower the rate, give the generator a core of its own, or send from several machines (--workers)",
        )
    return deliver.finish(session, "done")


def arranged(test: Test) -> Generator[Event, None, None]:
    """Requests of a named file, and the machines that send, instead of the configured ones and this one."""
    session, request = test.session, test.request
    if request.source:
        found = source_of(request.source, session.base_dir, session.config.target.url, session.policy.environment, request.replay)
        test.source = found
        session.meter.reshape = found.of
        if found.journeys is not None:
            session.put(journeys=found.journeys)
        if found.tool:
            _by_tool(test, found.tool)
        yield Told(text=f"requests from {request.source}: {found.text}")
    if request.replay and (test.source is None or test.source.replay is None):
        raise UsageError("there are no arrivals to replay", why="--replay needs an access log", fix="--source access.log --replay")
    if request.workers:
        test.workers = Workers(request.workers, session.config.workers, request.take_over)
        session.meter.engine = cast(ModuleType, test.workers)
        yield Told(text=f"the load is sent by the workers of {request.workers}")


def _by_tool(test: Test, tool: str) -> None:
    """Hands the load to another tool; ``UsageError`` for what only our own engine can be asked."""
    session, request = test.session, test.request
    if is_store(session.config.target.url):
        raise UsageError(f"{tool} tests a service by HTTP", why="the target is a database or cache", fix="write the journeys as async def functions")
    if request.workers:
        raise UsageError(f"--workers are not for {tool}", why="it has its own way to send from several machines", fix="leave --workers out")
    users_only = tool == "locust"
    kinds = (LoadKind.LOAD, LoadKind.SOAK, *((LoadKind.SCALABILITY,) if users_only else ()))
    if request.kind not in kinds:
        raise UsageError(
            f"a {request.kind} test needs a rate that perfloop sets",
            why=f"{tool} decides what its script sends",
            fix=f"--kind {' or '.join(kinds)}, or journeys as async def functions",
        )
    if users_only and request.kind != LoadKind.SCALABILITY and not request.users:
        raise UsageError("a locustfile is run by users, not at a rate", fix="say how many: --users 50")
    session.meter.engine = plugins.load("engine")[tool]
    session.note(f"{tool} sent the load and took the times: latencies count from when a request was sent, not from when it was due")


@contextmanager
def scripted(test: Test) -> Iterator[None]:
    """``setup`` and ``teardown`` of a file of journeys around the whole test, once; its text travels where other machines send."""
    source, meter = test.source, test.session.meter
    if source is None or source.script is None:
        yield
        return
    script = source.script.with_(source=Path(source.script.file).read_text()) if test.workers is not None else source.script
    with prepared(replace(source, script=script).of(meter.workload(1.0, 10.0, 1))) as ready:
        meter.reshape = replace(source, script=ready.script).of
        yield


def audited(test: Test) -> Generator[Event, None, LoadTest]:
    """The load between its two lines of the audit log; kinds that vary the size of the data prepare it themselves."""
    session, kind = test.session, test.request.kind
    work: Kind = load_kinds.KINDS[kind][0]
    operation = session.audit.begin(
        operation="load_test",
        command=f"{kind.value} test of {session.config.target.url}",
        resources=(f"service:{session.config.target.url}",),
        run_id=session.result.run_id,
    )
    try:
        if kind in load_kinds.SIZED and "{size}" in session.config.hooks.set_up:
            answer = yield from test.alive(work(test))
        else:
            with test.data():
                answer = yield from test.alive(work(test))
    except BaseException as error:
        session.audit.end(operation, "failure", error_detail=str(error) or type(error).__name__)
        raise
    session.audit.end(operation, "success", load_test_results=deliver_load(list(answer.windows)) if answer.windows else None)
    return answer


__all__ = ["Environment", "LoadKind", "Test", "arranged", "audited", "load"]
