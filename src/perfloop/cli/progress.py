"""What happens while the loop runs: one live line on a terminal, plain lines elsewhere; and how Ctrl-C ends it."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal, TextIO, TypeVar

from perfloop.cli.output import Output, wants_color
from perfloop.model.event import Event, PhaseStarted, RunningEstimate, Told
from perfloop.model.messages import AGENT
from perfloop.model.result import RunResult
from perfloop.report.text import counted, estimate, printable, seconds

T = TypeVar("T")

PLAIN_EVERY_S = 2.0
_MARKS = {"info": ("·", ""), "good": ("✓", "32"), "warning": ("!", "33"), "bad": ("✗", "31")}


def follow(events: Generator[Event, None, T], output: Output) -> T:
    """Show the events and return what the generator returns.

    The first Ctrl-C (or SIGTERM) reaches the loop, which undoes what is open and returns what it has; later ones only say that this is going on.
    """
    screen = Lines(sys.stderr) if output.progress == "jsonl" else Screen(output, sys.stderr)
    interrupted = False
    try:
        with _one_interrupt(screen):
            while True:
                try:
                    event = events.throw(KeyboardInterrupt()) if interrupted else next(events)
                    interrupted = False
                    screen.show(event)
                except KeyboardInterrupt:
                    if inspect.getgeneratorstate(events) == inspect.GEN_CLOSED:
                        raise
                    interrupted = True  # it came between two events: hand it to the loop
    except StopIteration as stop:
        result: T = stop.value
        if isinstance(screen, Lines) and isinstance(result, RunResult):
            screen.end(result)
        return result
    finally:
        screen.clear()
        events.close()


@contextmanager
def _one_interrupt(screen: Screen | Lines) -> Iterator[None]:
    """Within it only the first signal raises ``KeyboardInterrupt``, so that an undo is never broken by an impatient hand."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen = 0

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        seen += 1
        if seen > 1:
            screen.say("still finishing the undo; it has a deadline, and the watchdog takes over if this process dies", "warning")
            return
        screen.say("stopping: what was changed is undone first", "warning")
        raise KeyboardInterrupt

    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():  # after a stop what is left is short: a late second signal must break neither it nor the exit code
            signal.signal(number, signal.SIG_IGN if seen else handler)


class Lines:
    """Progress for agents: one JSON object a line, with the fields of the progress message, what happened as ``event``, and figures only where they were measured."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, event: Event) -> None:
        """One event."""
        self._write({"agent": AGENT, "status": "optimizing", "progress": {}, "event": event.model_dump(mode="json")})

    def say(self, text: str, level: Literal["info", "good", "warning", "bad"] = "info") -> None:
        """A sentence, as an event."""
        self.show(Told(level=level, text=text))

    def end(self, result: RunResult) -> None:
        """The progress message of the whole run."""
        self._write(
            result.progress | {"run_id": result.run_id, "state": result.state} if result.progress else {"agent": AGENT, "status": result.state, "progress": {}}
        )

    def clear(self) -> None:
        """Nothing is drawn, so nothing is to be removed."""

    def _write(self, what: dict[str, Any]) -> None:
        self._stream.write(json.dumps(what, ensure_ascii=False) + "\n")
        self._stream.flush()


class Screen:
    """Draws events on ``stream``: a live line on a terminal, at most one estimate in two seconds elsewhere, phases only in CI."""

    def __init__(self, output: Output, stream: TextIO) -> None:
        self._stream, self._quiet = stream, output.quiet or output.progress == "none"
        off = bool(os.environ.get("PERFLOOP_NO_PROGRESS"))
        self._live = stream.isatty() and os.environ.get("TERM", "") != "dumb" and not os.environ.get("CI") and not off and not output.quiet
        self._estimates = not off and not os.environ.get("CI")
        self._color = wants_color(stream) and output.color
        self._drawn = False
        self._last_s = 0.0

    def show(self, event: Event) -> None:
        """Draw one event."""
        match event:
            case PhaseStarted():
                self._line(f"{self._paint(event.phase, '1')}{'  ' + printable(event.detail) if event.detail else ''}{_left(event.left_s)}")
                self._last_s = 0.0
            case RunningEstimate():
                self._running(f"  {event.phase}: {_numbers(event)}{_left(event.left_s)}")
            case Told():
                self.say(event.text, event.level)

    def say(self, text: str, level: Literal["info", "good", "warning", "bad"] = "info") -> None:
        """A line that stays; with ``--quiet`` only warnings and worse."""
        if self._quiet and level in ("info", "good"):
            return
        mark, code = _MARKS[level]
        self._write(f"  {self._paint(mark, code)} {printable(text)}")

    def clear(self) -> None:
        """Remove the live line."""
        if self._drawn:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()
            self._drawn = False

    def _line(self, text: str) -> None:
        if not self._quiet:
            self._write(text)

    def _write(self, text: str) -> None:
        self.clear()
        self._stream.write(text + "\n")
        self._stream.flush()

    def _running(self, text: str) -> None:
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write("\r\x1b[2K" + printable(text)[:width])
            self._stream.flush()
            self._drawn = True
        elif self._estimates and not self._quiet and time.monotonic() - self._last_s >= PLAIN_EVERY_S:
            self._last_s = time.monotonic()
            self._write(text)

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._color and code else text


def _numbers(event: RunningEstimate) -> str:
    parts = [counted(event.requests, "request"), f"p95 {estimate(event.p95_s)}" if event.p95_s else "no answer yet"]
    parts += [f"{name} {seconds(value)}" for name, value in (("p50", event.p50_s), ("p99", event.p99_s)) if value is not None]
    parts += [f"{event.ok_per_s:,.0f}/s"] if event.ok_per_s is not None else []
    parts += [counted(event.users, "user")] if event.users else []
    classes = ", ".join(f"{count:,} × {name}" for name, count in sorted(event.errors_by_class.items(), key=lambda item: -item[1]))
    return ", ".join(parts + ([counted(event.errors, "error") + (f" ({classes})" if classes else "")] if event.errors else []))


def _left(left_s: float | None) -> str:
    return "" if left_s is None else f"  [{int(left_s) // 60}:{int(left_s) % 60:02d} left]"
