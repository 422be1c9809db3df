"""One timer for everything that is due, precise to tens of microseconds where the system has timerfd (Linux)."""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import os
import sys
import time
from collections.abc import Callable

_CLOCK_MONOTONIC, _ABSOLUTE = 1, 1
_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000
BATCH_MAX = 64  # due entries taken up at once when behind, before answers are read again
SLACK_S = 20e-6  # what is due within the time that waking up takes is one wake-up
NEVER_S = 3600.0
HOLD_S = 0.01  # the loop is kept waiting for no longer
_PR_SET_TIMERSLACK = 29  # the kernel may be late by 50 µs where it is not told


class _Spec(ctypes.Structure):
    _fields_ = (("interval_s", ctypes.c_long), ("interval_ns", ctypes.c_long), ("value_s", ctypes.c_long), ("value_ns", ctypes.c_long))


class Clock:
    """Calls back at absolute times of ``time.monotonic()``, in their order; each callback gets the time it was due.

    An event loop's own timers count whole milliseconds, which would be most of a fast service's latency; timerfd is a file
    that becomes readable at the nanosecond. Elsewhere the loop's timer is used, and the lateness that is recorded tells.

    ``look`` is called after what was due, and says within which time it wants to be called again and whether nobody else needs the loop:
    then the clock sleeps right here until the next is due, which costs less than going through the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0
        self.look: Callable[[], tuple[float, bool]] | None = None
        self._armed_s = float("inf")
        self._fd = -1
        self._spec = _Spec(0, 0, 0, 0)
        self._handle: asyncio.TimerHandle | None = None
        if sys.platform == "linux":
            libc = ctypes.CDLL(None)
            libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
            self._fd = libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
            if self._fd >= 0:
                self._set = libc.timerfd_settime
                self._set.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
                self._address = ctypes.addressof(self._spec)
                loop.add_reader(self._fd, self._fire)

    def at(self, due_s: float, callback: Callable[[float], None]) -> None:
        """Calls back at ``due_s``, as soon as possible where that is past."""
        self._count += 1
        heapq.heappush(self._due, (due_s, self._count, callback))
        if due_s < self._armed_s:
            self._arm(due_s)

    def clear(self) -> None:
        """Forgets all that is due."""
        self._due.clear()

    def close(self) -> None:
        """No more calls; harmless when closed already."""
        self.clear()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        if self._handle:
            self._handle.cancel()

    def _arm(self, due_s: float) -> None:
        self._armed_s = due_s
        if self._fd >= 0:
            seconds = int(due_s)
            self._spec.value_s, self._spec.value_ns = seconds, max(1, int((due_s - seconds) * 1e9))
            self._set(self._fd, _ABSOLUTE, self._address, None)
        else:
            if self._handle:
                self._handle.cancel()
            self._handle = self._loop.call_later(max(0.0, due_s - time.monotonic()), self._fire)

    def _fire(self) -> None:
        due, now_s = self._due, time.monotonic()
        self._armed_s = -1.0  # what is added now arms nothing: that is done once, below
        self._call(now_s)
        next_s = now_s + NEVER_S
        if self.look is not None:
            next_s = self._hold(self.look, now_s + HOLD_S)
        # arming the timer anew also makes it unreadable; with nothing due it must not stay readable
        self._arm(max(min(due[0][0], next_s) if due else next_s, time.monotonic() + SLACK_S))

    def _call(self, now_s: float) -> None:
        due = self._due
        for _ in range(BATCH_MAX):
            if not due or due[0][0] > now_s:
                break
            due_s, _, callback = heapq.heappop(due)
            callback(due_s)

    def _hold(self, look: Callable[[], tuple[float, bool]], until_s: float) -> float:
        """Sleeps here from one to the next as long as nobody needs the loop; the time of the next look."""
        due, now = self._due, time.monotonic
        while True:
            within_s, alone = look()
            now_s = now()
            next_s = now_s + within_s
            wake_s = min(due[0][0], next_s) if due else next_s
            if not alone or max(wake_s, now_s) > until_s:
                return next_s
            if wake_s > now_s:
                time.sleep(wake_s - now_s)
            self._call(now())
