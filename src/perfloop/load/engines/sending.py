"""One window of load: what is due is sent, what is over its time is ended, and all of it stops within bounds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Protocol

from perfloop.load.engines.calls import Call
from perfloop.load.engines.inbox import LOOK_S, Inbox
from perfloop.load.engines.pool import OursError, Pool, Route
from perfloop.load.engines.recorder import Recorder
from perfloop.load.engines.timer import NEVER_S, Clock

STOP_AFTER = 50  # requests before the share of errors may end the window
SCAN_MIN_S, SCAN_SHARE = 0.02, 0.05  # a timeout is noticed within the larger of these, the second of itself


class Source(Protocol):
    """Who sends: arrivals, or users."""

    @property
    def users(self) -> int:
        """Active now, of closed load."""
        ...

    def begin(self) -> None:
        """The first requests; all others follow from these."""
        ...

    def tick(self, now_s: float) -> None:
        """Every few milliseconds: whoever should be here by now, or no more."""
        ...

    def overdue(self, now_s: float) -> Iterable[Call]:
        """Calls that may be over their time."""
        ...

    def close(self) -> None:
        """Ends whoever is still in the middle of something."""
        ...


class Nobody:
    """Sends nothing by itself: for a hook, whose one user is started by hand."""

    users = 0

    def begin(self) -> None:
        """Nothing."""

    def tick(self, now_s: float) -> None:
        """Nothing."""

    def overdue(self, now_s: float) -> Iterable[Call]:
        """Nothing."""
        return ()

    def close(self) -> None:
        """Nothing."""


class Sending:
    """One window. ``begin`` starts it, ``tick`` is called every few milliseconds, ``finished`` says when it is over."""

    def __init__(
        self,
        route: Route,
        recorder: Recorder,
        *,
        own: bool,
        timeout_s: float,
        first_byte_s: float | None,
        connections_max: int,
        error_rate_stop: float,
        pool: type[Pool] = Pool,
        inbox: Inbox | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.recorder, self.own, self.timeout_s, self.first_byte_s = recorder, own, timeout_s, first_byte_s
        self._error_rate_stop = error_rate_stop
        self.clock = Clock(loop)
        self.inbox = inbox
        self.pool = pool(route, connections_max, own, timeout_s, self._retried, inbox)
        if inbox is not None and inbox.patient:
            self.clock.look = self._look
        self.source: Source = Nobody()
        self.on = True  # requests may start
        self.in_flight = 0
        self.start_s = 0.0
        self.end_s = float("inf")
        self.stopped_early = ""
        self.ended_at_s = 0.0
        self.broken: OursError | None = None

    def begin(self, source: Source, start_s: float, end_s: float) -> None:
        """Sends what this source says, from ``start_s`` to ``end_s`` on the monotonic clock."""
        self.source, self.start_s, self.end_s = source, start_s, end_s
        self.recorder.start_s = start_s
        source.begin()

    @property
    def finished(self) -> bool:
        """True when all that was sent has ended."""
        return not self.on and self.in_flight == 0

    def tick(self, now_s: float) -> None:
        """Ends what is over its time, counts, and stops at the end or at too many errors."""
        self.expire(self.source.overdue(now_s), now_s)
        self.recorder.count()
        self.pool.refill()
        self.broken = self.pool.broken
        if not self.on:
            return
        self.source.tick(now_s)
        if now_s >= self.end_s:
            self.stop(self.end_s)
        recorder = self.recorder
        if self.on and recorder.finished >= STOP_AFTER and recorder.failed > self._error_rate_stop * recorder.finished:
            firsts = "; ".join(f"{name}: {detail}" for name, detail in recorder.first_errors.items())
            self.stop(now_s, f"{recorder.failed} of {recorder.finished} requests failed ({firsts})")

    def stop(self, now_s: float, why: str = "") -> None:
        """No more requests; what is in flight is awaited."""
        if self.on:
            self.on, self.ended_at_s, self.stopped_early = False, now_s, why
            self.clock.clear()

    def stop_now(self, why: str) -> None:
        """No more requests from now on."""
        self.stop(time.monotonic(), why)

    def close(self) -> None:
        """Ends everything, whatever it does."""
        self.on = False
        self.clock.close()
        self.source.close()
        self.pool.close()
        if self.inbox is not None:
            self.inbox.close()

    def expire(self, calls: Iterable[Call], now_s: float) -> None:
        """Ends those of the calls that are over their time."""
        for call in calls:
            error = self._over(call, now_s)
            if error:
                connection = call.connection
                size = connection.size_bytes if connection is not None and connection.call is call else 0
                bound_s = self.first_byte_s if error == "timeout_first_byte" else call.timeout_s
                self.pool.drop(call)
                call.failed(error, f"no {'byte of a' if error == 'timeout_first_byte' else 'complete'} response within {bound_s:g} s", size)

    def _over(self, call: Call, now_s: float) -> str:
        if not call.active:
            return ""
        if now_s - call.intended_s >= call.timeout_s:
            return "timeout"
        connection = call.connection
        if self.first_byte_s is None or connection is None or connection.call is not call or connection.size_bytes:
            return ""
        return "timeout_first_byte" if now_s - max(call.sent_s, call.intended_s) >= self.first_byte_s else ""

    def _look(self) -> tuple[float, bool]:
        """Reads answers between arrivals: when next at the latest, and whether nobody needs the event loop."""
        inbox = self.inbox
        assert inbox is not None
        inbox.read()
        if not inbox.patient:
            self.clock.look = None
            return NEVER_S, False
        return (LOOK_S if self.in_flight else NEVER_S), not (inbox.untold or self.pool.connecting)

    def _retried(self) -> None:
        self.recorder.retries += 1


class Scan:
    """Goes through many calls bit by bit, so that a look at all of them is no pause: each is seen once in ``every_s``."""

    def __init__(self, every_s: float) -> None:
        self._every_s = max(SCAN_MIN_S, every_s)
        self._at = 0
        self._last_s = 0.0

    def some(self, calls: list[Call], now_s: float) -> list[Call]:
        """The calls whose turn it is."""
        passed_s, self._last_s = now_s - self._last_s, now_s
        count = min(len(calls), int(len(calls) * passed_s / self._every_s) + 1)
        begin = self._at if self._at < len(calls) else 0
        self._at = begin + count
        return calls[begin : self._at] + (calls[: self._at - len(calls)] if self._at > len(calls) else [])


def bound_or(timeout_s: float, shorter_s: float | None) -> float:
    """The time in which a scan must see every call, for timeouts like these."""
    return SCAN_SHARE * min(timeout_s, shorter_s or timeout_s)
