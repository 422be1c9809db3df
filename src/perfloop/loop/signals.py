"""Signals while a change is open: they unwind the stack, and wait while something is undone."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

from perfloop.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Handlers:
    """Sets signal handlers for a block, in the main thread (elsewhere signals do not arrive), and puts the old ones back."""

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}

    def _set(self, number: signal.Signals, handler: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before[number] = signal.signal(number, handler)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}


class TermIsAnException(_Handlers):
    """While a change is open, SIGTERM and SIGHUP unwind the stack like Ctrl-C does, unless somebody already handles them."""

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_DFL:
                self._set(number, self._raise)

    def __exit__(self, *_: object) -> None:
        self._restore()

    @staticmethod
    def _raise(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(f"stopped by {signal.Signals(number).name}", fix="run it again; what was open is undone")


class Masked(_Handlers):
    """Signals wait until the block is over: half an undo is worse than a late exit. One that came then counts as Ctrl-C."""

    def __init__(self, doing: str) -> None:
        super().__init__()
        self._doing, self._came = doing, 0

    def __enter__(self) -> None:
        for number in _SIGNALS:
            self._set(number, self._wait)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()
        if self._came and kind is None:
            raise KeyboardInterrupt

    def _wait(self, number: int, _frame: FrameType | None) -> None:
        self._came += 1
        sys.stderr.write(f"\nperfloop: {self._doing}; this is finished first (please wait)\n")
