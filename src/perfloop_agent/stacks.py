"""Samples of our own threads, for where no other process may read them (ptrace forbidden). Work and waiting are told apart by each thread's CPU clock."""

from __future__ import annotations

import os
import sys
import threading
import time

DEPTH_MAX = 200
HERE = os.path.dirname(os.path.abspath(__file__))
STACKS_MAX = 20_000


def sample(hz, seconds, stopped):
    """Look ``hz`` times a second until ``stopped()`` or ``seconds`` have passed: {stacks: [[thread, [[function, file, line]…] outermost first, total, active]], samples, window_s}."""
    mine = threading.get_ident()
    found: dict = {}
    spent: dict = {}
    count = 0
    began = last = time.monotonic()
    while time.monotonic() - began < seconds and not stopped():
        time.sleep(1.0 / hz)
        moment = time.monotonic()
        passed, last = max(moment - last, 1e-6), moment
        count += 1
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident != mine:
                used = _used(ident, spent)
                key = (names.get(ident, "thread %d" % ident), _frames(frame))
                if not key[1] or key[1][0][1].startswith(HERE):
                    continue  # a thread of this agent
                if key in found or len(found) < STACKS_MAX:
                    entry = found.setdefault(key, [0, 0.0])
                    entry[0] += 1
                    entry[1] += min(1.0, used / passed)
    window_s = time.monotonic() - began
    stacks = [[thread, [list(frame) for frame in frames], total, active] for (thread, frames), (total, active) in found.items()]
    return {"stacks": stacks, "samples": count, "window_s": window_s}


def _frames(frame):
    stack = []
    while frame is not None and len(stack) < DEPTH_MAX:
        code = frame.f_code
        stack.append((code.co_name, code.co_filename, frame.f_lineno or 0))
        frame = frame.f_back
    return tuple(reversed(stack))


def _used(ident, spent):
    """CPU seconds of a thread since the last look; 0 where there is no such clock, or it ended meanwhile."""
    try:
        value = time.clock_gettime(time.pthread_getcpuclockid(ident))
    except (OSError, AttributeError):
        return 0.0
    before = spent.get(ident, value)
    spent[ident] = value
    return value - before
