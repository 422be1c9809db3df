"""Long work for agents: it runs in a thread of its own, a call waits for it at most 45 s, and it can be asked for again by its id."""

from __future__ import annotations

import inspect
import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Literal

from perfloop.errors import PerfloopError, UsageError
from perfloop.model.base import Estimate
from perfloop.model.event import Event, PhaseStarted, RunningEstimate, Told
from perfloop.model.result import RunResult

WAIT_MAX_S = 45.0
SAID_MAX = 200
STOP_WAIT_S = 330.0  # an undo has 300 s
JOBS_MAX = 20

Work = Generator[Event, None, Any]
State = Literal["running", "done", "failed", "stopped"]


class Job:
    """One generator of events, followed to its end. ``said`` are the texts so far; ``result`` or ``error`` is set when it is over."""

    def __init__(self, job_id: str, title: str, work: Work) -> None:
        self.id, self.title = job_id, title
        self.state: State = "running"
        self.phase = ""
        self.left_s: float | None = None
        self.p95_s: Estimate | None = None
        self.requests = 0
        self.said: deque[str] = deque(maxlen=SAID_MAX)
        self.result: Any = None
        self.error: PerfloopError | None = None
        self._work = work
        self._over = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=job_id)  # no daemon: what is open must be undone before the process ends
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait for its end, at most so long; True where it is over."""
        return self._over.wait(min(seconds, WAIT_MAX_S))

    def stop(self) -> None:
        """Interrupt it as Ctrl-C would: what is open is undone, partial results are kept. Returns when it is over."""
        self._stop.set()
        self._over.wait(STOP_WAIT_S)

    def _follow(self) -> None:
        try:
            self._drain()
        except PerfloopError as error:
            self.state, self.error = "failed", error
        except BaseException as error:
            self.state, self.error = "failed", PerfloopError(f"the run ended by a defect: {type(error).__name__}", why=str(error)[:300])
            raise
        finally:
            self._over.set()

    def _drain(self) -> None:
        interrupted = False
        while True:
            try:
                event = self._work.throw(KeyboardInterrupt()) if interrupted else next(self._work)
            except StopIteration as stop:
                self.result = stop.value
                self.state = "stopped" if isinstance(stop.value, RunResult) and stop.value.state == "interrupted" else "done"
                return
            except KeyboardInterrupt:
                self.state = "stopped"
                return
            interrupted = self._stop.is_set() and inspect.getgeneratorstate(self._work) == inspect.GEN_SUSPENDED
            if interrupted:
                self._stop.clear()
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case PhaseStarted():
                self.phase, self.left_s, self.p95_s = event.phase, event.left_s, None
                self.said.append(f"{event.phase}: {event.detail}" if event.detail else event.phase)
            case RunningEstimate():
                self.p95_s, self.requests = event.p95_s or self.p95_s, event.requests
                self.left_s = event.left_s if event.left_s is not None else self.left_s
            case Told():
                self.said.append(event.text)


class Jobs:
    """The work of one server: one run at a time, because two would measure each other."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def start(self, title: str, work: Callable[[], Work]) -> Job:
        """Begin it; ``UsageError`` while another one runs."""
        with self._lock:
            running = next((job for job in self._jobs.values() if job.state == "running"), None)
            if running:
                raise UsageError(
                    f"{running.id} is still running: {running.title}",
                    why="two runs at once would measure each other",
                    fix=f"ask for job {running.id} again, with wait_s 45",
                )
            job = Job(f"job-{next(self._numbers)}", title, work())
            self._jobs[job.id] = job
            for old in list(self._jobs)[:-JOBS_MAX]:
                del self._jobs[old]
            return job

    def get(self, job_id: str) -> Job:
        """One job; ``UsageError`` names those that are known."""
        if job_id not in self._jobs:
            raise UsageError(
                f"there is no job {job_id!r}", why=f"known: {', '.join(self._jobs) or 'none'}", fix="stored runs outlive their jobs: use the run's id"
            )
        return self._jobs[job_id]

    def close(self) -> None:
        """Stop what runs, with its undo; called when the client has gone."""
        for job in list(self._jobs.values()):
            if job.state == "running":
                job.stop()
