"""Calls: one request each, from its intended start to its end in exactly one class. Bare ones, without a user's state, are here."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from perfloop.load.engines.heads import Head
from perfloop.load.engines.recorder import Column
from perfloop.load.engines.requests import Template

if TYPE_CHECKING:
    from perfloop.load.engines.connection import Connection
    from perfloop.load.engines.sending import Sending

_monotonic = time.monotonic
PAUSE_S = 0.05  # of a closed user whose request failed at once, so that a dead service is not asked in a spin


class Call:
    """What a connection must know of a request, and the two ways in which it ends. Used again for the next request of the same user."""

    __slots__ = ("active", "column", "connection", "head", "idempotent", "intended_s", "keep", "payload", "retried", "sent_s", "timeout_s")

    def __init__(self, column: Column, template: Template, timeout_s: float) -> None:
        self.column, self.timeout_s = column, timeout_s
        self.payload, self.head, self.idempotent = template.payload, template.head, template.idempotent
        self.intended_s = self.sent_s = 0.0
        self.keep = self.retried = self.active = False
        self.connection: Connection | None = None

    def answered(self, connection: Connection, head: Head, size: int, body_at: int) -> None:
        """A complete response came; ``body_at`` is where its body begins in the shared buffer, −1 where it was collected."""
        raise NotImplementedError

    def failed(self, error: str, detail: str, size: int) -> None:
        """The request ended without a complete response."""
        raise NotImplementedError


class OpenCall(Call):
    """An arrival of open load: one request on whatever connection is free."""

    __slots__ = ("_sending",)

    def __init__(self, sending: Sending, column: Column, template: Template, intended_s: float) -> None:
        super().__init__(column, template, sending.timeout_s)
        self._sending, self.intended_s = sending, intended_s
        self.active = True

    def answered(self, connection: Connection, head: Head, size: int, body_at: int) -> None:
        """A complete response came."""
        self.active = False
        self.column.answered(self.intended_s, connection.read_at_s or _monotonic(), head, size)
        self._sending.in_flight -= 1
        self._sending.pool.give_back(connection, head.keep_alive)

    def failed(self, error: str, detail: str, size: int) -> None:
        """The request ended without a complete response."""
        if self.active:
            self.active = False
            self.column.failed(error, detail, size)
            self._sending.in_flight -= 1


class ClosedCall(Call):
    """A closed user without state or think time: the next request starts when the last one ends."""

    __slots__ = ("_choices", "_sending", "_steps", "_turn", "_turns")

    def __init__(self, sending: Sending, steps: Sequence[tuple[Column, Sequence[Template]]], choices: Iterator[int], turn: int, turns: int) -> None:
        column, templates = steps[0]
        super().__init__(column, templates[0], sending.timeout_s)
        self._sending, self._turn, self._turns = sending, turn, turns
        self._steps = steps
        self._choices = choices if len(steps) > 1 or len(templates) > 1 else None  # one template is not chosen

    def begin(self, intended_s: float) -> None:
        """Starts the first request, and goes on until the load ends."""
        if not self._sending.on:
            return
        self._sending.in_flight += 1
        self._prepare(intended_s)
        self._sending.pool.submit(self)

    def answered(self, connection: Connection, head: Head, size: int, body_at: int) -> None:
        """A complete response came: the next request goes out at once, on the same connection where it stays open."""
        now_s = _monotonic()
        column = self.column
        if head.rest >= 0 and not head.error:
            column.starts.append(self.intended_s)
            column.ends.append(now_s)
            column.heads.append(head)
        else:
            column.answered(self.intended_s, now_s, head, size)
        sending = self._sending
        if not sending.on:
            self._stop(connection, head)
        elif head.keep_alive:
            self._prepare(now_s)
            if sending.own:
                connection.send(self)
            else:
                sending.pool.release(connection)
                sending.pool.submit(self)
        else:
            connection.abort()
            self._prepare(now_s)
            sending.pool.submit(self)

    def failed(self, error: str, detail: str, size: int) -> None:
        """The request ended without a complete response: the next one follows after a short pause."""
        if not self.active:
            return
        self.active = False
        self.column.failed(error, detail, size)
        self._sending.in_flight -= 1
        if self._sending.on:
            self._sending.clock.at(_monotonic() + PAUSE_S, self.begin)

    def _prepare(self, intended_s: float) -> None:
        self.intended_s = intended_s
        self.active = True
        if self._choices is not None:
            self.column, templates = self._steps[next(self._choices)]
            template = templates[self._turn % len(templates)]
            self._turn += self._turns
            self.payload, self.head, self.idempotent = template.payload, template.head, template.idempotent
            self.column.bytes_out += len(self.payload)
        self.retried = False
        self.column.sent += 1

    def _stop(self, connection: Connection, head: Head) -> None:
        self.active = False
        self._sending.in_flight -= 1
        self._sending.pool.give_back(connection, head.keep_alive)
