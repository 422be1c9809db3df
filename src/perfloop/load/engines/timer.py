"""One timer for all arrivals, precise to tens of microseconds where the system has timerfd (Linux)."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

_CLOCK_MONOTONIC, _ABSOLUTE = 1, 1
_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000


class _Spec(ctypes.Structure):
    _fields_ = (("interval_s", ctypes.c_long), ("interval_ns", ctypes.c_long), ("value_s", ctypes.c_long), ("value_ns", ctypes.c_long))


class ArrivalTimer:
    """Calls back once at an absolute time of ``time.monotonic()``; armed again for each next time.

    An event loop's own timers count whole milliseconds, which would be most of a fast service's latency; timerfd is a file
    that becomes readable at the nanosecond. Elsewhere the loop's timer is used, and the lateness that is recorded tells.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop, self._callback = loop, callback
        self._fd = -1
        self._spec = _Spec(0, 0, 0, 0)
        self._handle: asyncio.TimerHandle | None = None
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None)
            self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
            if self._fd >= 0:
                loop.add_reader(self._fd, self._fire)

    def arm(self, at_s: float) -> None:
        """Calls back at ``at_s``; at once where that is past."""
        if self._fd >= 0:
            seconds = int(at_s)
            self._spec.value_s, self._spec.value_ns = seconds, max(1, int((at_s - seconds) * 1e9))
            self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(self._spec), None)
        else:
            self._handle = self._loop.call_later(max(0.0, at_s - time.monotonic()), self._callback)

    def close(self) -> None:
        """No more calls; harmless when closed already."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        if self._handle:
            self._handle.cancel()

    def _fire(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # armed anew since it became readable
            return
        self._callback()
