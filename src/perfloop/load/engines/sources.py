"""Bare load, whose requests know nothing of one another: open arrivals, and closed users without think time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from perfloop.load.engines.calls import Call, ClosedCall, OpenCall
from perfloop.load.engines.recorder import Column
from perfloop.load.engines.requests import Template
from perfloop.load.engines.schedule import Curve
from perfloop.load.engines.sending import Scan, Sending, bound_or

Steps = Sequence[tuple[Column, Sequence[Template]]]


class OpenArrivals:
    """Each request at its time, on the next free connection."""

    users = 0

    def __init__(self, sending: Sending, steps: Steps, arrivals: Iterator[tuple[int, float, int]], turns: int) -> None:
        self._sending, self._steps, self._arrivals = sending, steps, arrivals
        self._turns = [turns] * len(steps)  # shards begin at different paths
        self._calls: deque[OpenCall] = deque()  # all that are not over, oldest first, and some that are
        self._choice = 0

    def begin(self) -> None:
        """Waits for the first arrival."""
        self._advance()

    def tick(self, now_s: float) -> None:
        """Nothing to do between arrivals."""

    def overdue(self, now_s: float) -> Iterable[Call]:
        """The oldest calls. Where a timeout is shorter than the total all are looked at."""
        calls = self._calls
        while calls and not calls[0].active:
            calls.popleft()
        if self._sending.first_byte_s is not None:
            return tuple(calls)
        oldest_s = now_s - self._sending.timeout_s
        over = []
        for call in calls:
            if call.intended_s > oldest_s:
                break
            over.append(call)
        return over

    def close(self) -> None:
        """Nobody is in the middle of anything."""

    def _advance(self) -> None:
        try:
            _, at_s, self._choice = next(self._arrivals)
        except StopIteration:
            return
        self._sending.clock.at(self._sending.start_s + at_s, self._arrive)

    def _arrive(self, due_s: float) -> None:
        sending = self._sending
        if not sending.on:
            return
        choice = self._choice
        column, templates = self._steps[choice]
        turn = self._turns[choice]
        self._turns[choice] = turn + 1
        template = templates[turn % len(templates)]
        call = OpenCall(sending, column, template, due_s)
        if not template.idempotent and sending.inbox is not None:
            sending.inbox.read()  # a connection that was closed meanwhile would cost this request, which cannot be sent twice
        column.sent += 1
        column.bytes_out += len(template.payload)
        sending.recorder.arrivals.append(due_s)
        sending.recorder.lates.append(time.monotonic() - due_s)
        sending.in_flight += 1
        self._calls.append(call)
        sending.pool.submit(call)
        self._advance()


class Crowd:
    """Who of numbered closed users is here: as many as the curve says at this time. ``count`` numbers are this shard's, ``stride`` apart."""

    def __init__(self, curve: Curve, index: int, stride: int, count: int) -> None:
        self._curve, self._index, self._stride, self._count = curve, index, stride, count

    def wanted(self, at_s: float) -> int:
        """How many users of this shard should be active."""
        level = self._curve.level(max(0.0, at_s))
        whole = int(level + 1e-9)
        return max(0, min(self._count, (whole - self._index + self._stride - 1) // self._stride))


class ClosedBare:
    """Users that send their next request as soon as the last one is answered."""

    def __init__(self, sending: Sending, steps: Steps, crowd: Crowd, count: int, choices: Iterator[int], turns: int) -> None:
        self._sending, self._crowd = sending, crowd
        self._calls: list[Call] = []
        self._steps, self._choices, self._turns, self._count = steps, choices, turns, count
        self._count = count
        self._scan = Scan(bound_or(sending.timeout_s, sending.first_byte_s))

    @property
    def users(self) -> int:
        """Users that are active."""
        return len(self._calls)

    def begin(self) -> None:
        """The users of the first moment, as soon as the window starts."""
        self._sending.clock.at(self._sending.start_s, self.tick)

    def tick(self, now_s: float) -> None:
        """Starts users until there are enough. Fewer need think time or steps to leave: those are ``users.Users``."""
        for number in range(len(self._calls), self._crowd.wanted(now_s - self._sending.start_s)):
            call = ClosedCall(self._sending, self._steps, self._choices, self._turns + number, self._count)
            self._calls.append(call)
            call.begin(now_s)

    def overdue(self, now_s: float) -> Iterable[Call]:
        """Some of the users, all in turn."""
        return self._scan.some(self._calls, now_s)

    def close(self) -> None:
        """Nobody is in the middle of anything."""
