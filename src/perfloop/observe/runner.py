"""Runs probes side by side, one thread each: prepare (slow), begin together, look, finish. A probe that fails becomes ``Unavailable``; the others go on."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import TracebackType
from typing import Any, cast

from perfloop.errors import PerfloopError
from perfloop.model.evidence import Unavailable
from perfloop.model.target import Target
from perfloop.observe import BUILTIN
from perfloop.observe.base import Access, Observation, ObservedParts, Probe, Session, sort_parts

FINISH_MAX_S = 30.0
READY_MAX_S = 10.0


class _Worker(threading.Thread):
    """One probe in its own thread, from its start to its observations."""

    def __init__(self, probe_id: str, probe: Probe, target: Target, access: Access, begin: threading.Event, stop: threading.Event) -> None:
        super().__init__(name=f"probe-{probe_id}", daemon=True)
        self.probe_id, self.ready, self.began, self.done = probe_id, threading.Event(), threading.Event(), threading.Event()
        self.found: Sequence[Observation] = ()
        self._probe, self._target, self._access = probe, target, access
        self._begin, self._stop_event = begin, stop

    def run(self) -> None:
        """The probe's life; whatever goes wrong in it is told as ``Unavailable`` and never reaches the loop."""
        try:
            self.found = self._observe()
        except PerfloopError as error:
            self.found = (Unavailable(probe=self.probe_id, reason=f"{error.what}: {error.why}" if error.why else error.what, fix=error.fix),)
        except Exception as error:  # noqa: BLE001 -- one of the three allowed places: a probe must not end the loop
            self.found = (
                Unavailable(
                    probe=self.probe_id,
                    reason=f"the probe failed: {type(error).__name__}: {_redacted(error, self._access)}",
                    fix=f"run without it: --skip {self.probe_id}",
                ),
            )
        finally:
            self.ready.set()
            self.began.set()
            self.done.set()

    def _observe(self) -> Sequence[Observation]:
        session = self._probe.start(self._target, self._access)
        if isinstance(session, Unavailable):
            return (session,)
        try:
            self.ready.set()
            self._begin.wait(self._access.window_max_s)
            session.begin()
            self.began.set()
            self._look(session)
            return session.finish()
        finally:
            session.close()

    def _look(self, session: Session) -> None:
        """Sample until the stop or the limit, at random moments around the interval: a fixed beat would see a periodic service always in the same place."""
        limit = time.monotonic() + self._access.window_max_s
        if session.interval_s is None:
            self._stop_event.wait(self._access.window_max_s)
            return
        due = time.monotonic()
        while (now := time.monotonic()) < limit:
            due = max(due + session.interval_s * random.uniform(0.5, 1.5), now)
            if self._stop_event.wait(max(0.0, due - now)):
                return
            session.sample()


class Observer:
    """A look of unknown length: ``start()``, ``wait_ready()``, the load, ``stop()``. As a context manager it stops on the way out.

    ``probes`` are ids of built-in probes (None: all) or of ``plugins`` (id → module). Nothing is counted before ``wait_ready`` returned, which is when
    the window begins.
    """

    def __init__(self, target: Target, access: Access, probes: Sequence[str] | None = None, plugins: Mapping[str, Any] | None = None) -> None:
        known = _known(plugins)
        chosen = list(known) if probes is None else list(probes)
        self._begin, self._stop = threading.Event(), threading.Event()
        self._unknown = [Unavailable(probe=name, reason=f"there is no probe {name}", fix=f"one of {', '.join(known)}") for name in chosen if name not in known]
        self._workers = [_Worker(name, _load(known[name]), target, access, self._begin, self._stop) for name in chosen if name in known]
        self._began_s = 0.0
        self._parts: ObservedParts | None = None

    def start(self) -> Observer:
        """Begin to attach and connect; returns at once."""
        for worker in self._workers:
            worker.start()
        return self

    def wait_ready(self, timeout_s: float = READY_MAX_S) -> bool:
        """Wait until every probe can look, then open the window. False where some were not ready in time: they join later."""
        limit = time.monotonic() + timeout_s
        ready = all(worker.ready.wait(max(0.0, limit - time.monotonic())) for worker in self._workers)
        self._began_s = time.monotonic()
        self._begin.set()
        for worker in self._workers:  # what is sent from now on must lie in every probe's window
            if worker.ready.is_set():
                worker.began.wait(timeout_s)
        return ready

    def stop(self) -> ObservedParts:
        """Close the window and return what was seen; a probe that does not finish within 30 s is told as ``Unavailable``. Further calls return the same."""
        if self._parts is not None:
            return self._parts
        window_s = time.monotonic() - self._began_s if self._begin.is_set() else 0.0
        self._stop.set()
        self._begin.set()
        found: list[tuple[str, Sequence[Observation]]] = [("runner", self._unknown)]
        limit = time.monotonic() + FINISH_MAX_S
        for worker in self._workers:
            if worker.ident is None:
                continue
            if worker.done.wait(max(0.0, limit - time.monotonic())):
                found.append((worker.probe_id, worker.found))
            else:
                found.append(
                    (
                        worker.probe_id,
                        (
                            Unavailable(
                                probe=worker.probe_id, reason=f"it did not finish within {FINISH_MAX_S:g} s", fix=f"run without it: --skip {worker.probe_id}"
                            ),
                        ),
                    )
                )
        self._parts = sort_parts(found, window_s)
        return self._parts

    def __enter__(self) -> Observer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def observe(target: Target, window_s: float, access: Access, probes: Sequence[str] | None = None, plugins: Mapping[str, Any] | None = None) -> ObservedParts:
    """Look for ``window_s`` seconds (the caller's load runs meanwhile) and return what was seen. Blocks."""
    with Observer(target, access, probes, plugins) as observer:
        observer.wait_ready()
        time.sleep(min(window_s, access.window_max_s))
        return observer.stop()


def collect(probe: str, target: Target, window_s: float, access: Access) -> ObservedParts:
    """One probe alone for ``window_s`` seconds."""
    return observe(target, window_s, access, (probe,))


def _known(plugins: Mapping[str, Any] | None) -> dict[str, Any]:
    """Probes by id: modules, or the names of modules that are imported only when they are asked for."""
    return dict(plugins) if plugins is not None else {name.rpartition(".")[2]: name for name in BUILTIN}


def _load(module: Any) -> Probe:
    return cast(Probe, import_module(module) if isinstance(module, str) else module)


def _redacted(error: Exception, access: Access) -> str:
    from perfloop.host.secrets import redact

    text = str(error)[:300]
    return redact(text.replace(access.postgres_dsn, "(dsn)") if access.postgres_dsn else text)
