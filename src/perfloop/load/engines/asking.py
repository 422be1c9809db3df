"""What a user can do in a journey: send requests and wait for their answers, check, think, and await other things.

Nothing here is a task or a future: a generator waits for what ``users.User`` continues it with.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from random import Random
from types import coroutine
from typing import TYPE_CHECKING, Any

from perfloop.load.engines.calls import Call
from perfloop.load.engines.heads import Head
from perfloop.load.engines.recorder import Column, JourneyCount
from perfloop.load.engines.reply import Reply
from perfloop.load.engines.requests import Template

if TYPE_CHECKING:
    from perfloop.load.engines.crowd import World
    from perfloop.load.engines.users import User

_monotonic = time.monotonic
#: What a journey yields when it waits for us; anything else is a future of asyncio.
WAIT = object()
Function = Callable[["User"], Coroutine[Any, Any, Any]]


class StepFailed(Exception):
    """A step did not succeed, and the journey does not go on; the request has been counted in its class."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


@dataclass(slots=True)
class Program:
    """A journey as it is run: its function, its counts, its weight, and how long its users think afterwards."""

    name: str
    function: Function
    count: JourneyCount
    weight: float = 1.0
    think_s: tuple[float, float] = (0.0, 0.0)
    feeds: Sequence[Callable[[int], dict[str, str]]] = field(default=())


@dataclass(slots=True)
class Prepared:
    """A request ready to be sent: its column and its bytes."""

    column: Column
    template: Template


class Asking(Call):
    """One user. In a journey: ``await user.get(path)`` and its like, ``user.check(name, true)``, ``await user.think(seconds)``.

    ``id`` is its number, ``iteration`` the number of this iteration in the whole run, ``vars`` what was fed or extracted in it,
    ``state`` what it keeps from one to the next, ``data`` what ``setup`` returned. Nothing of a user is shared with another.
    """

    __slots__ = (
        "_began_s", "_close", "_cookies", "_first_s", "_last_head", "_last_size", "_random", "_send", "_world", "data", "error",
        "id", "iteration", "program", "starting", "state", "vars",
    )  # fmt: skip

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world.no_column, world.no_template, world.sending.timeout_s)
        self.keep = True
        self.id = self.iteration = number
        self.vars: dict[str, Any] = {}
        self.state: dict[str, Any] = {}
        self.starting = False  # an iteration is in its first part, that waits for nothing
        self.data: Any = world.data
        self.error = ""
        self._world = world
        self._first_s = self._began_s = 0.0
        self._send: Any = None
        self._close: Any = None
        self.program: Program = world.programs[0]
        self._random: Random | None = None
        self._cookies: dict[str, str] | None = None
        self._last_head: Head | None = None
        self._last_size = 0

    # ----- what a connection calls

    # ----- what a journey calls

    @coroutine
    def get(self, path: str, name: str = "", headers: dict[str, str] | None = None) -> Generator[Any, Any, Reply]:
        """Sends a GET request and waits for the answer. ``name`` is its label in the results; empty: method and path, numbers as ``{id}``."""
        prepared = self._world.gets.get((path, name)) if headers is None else None
        self.timeout_s = self._world.sending.timeout_s
        self._launch(prepared or self._world.prepare("GET", path, name, headers, b""))
        reply: Reply = yield WAIT
        return reply

    @coroutine
    def request(
        self,
        method: str,
        path: str,
        *,
        name: str = "",
        headers: dict[str, str] | None = None,
        json: Any = None,
        body: str | bytes = b"",
        timeout_s: float | None = None,
        redirects_max: int = 0,
    ) -> Generator[Any, Any, Reply]:
        """Sends a request with a body, as it is or as JSON, and waits for the answer; redirects to the same origin are followed up to the bound.

        The result counts once, under its name, from its own start to the last answer.
        """
        content = self._world.content(json, body)
        self.timeout_s = timeout_s or self._world.sending.timeout_s
        self._launch(self._world.prepare(method, path, name, headers, content))
        reply: Reply = yield WAIT
        if redirects_max and not reply.error and reply.status >= 300:
            reply = yield from self._follow(reply, method, path, redirects_max, name, content)
        return reply

    @coroutine
    def send(self, prepared: Prepared, timeout_s: float | None = None, redirects_max: int = 0) -> Generator[Any, Any, Reply]:
        """Sends a request that was made before."""
        world = self._world
        self.timeout_s = timeout_s or world.sending.timeout_s
        self._launch(prepared)
        reply: Reply = yield WAIT
        if redirects_max and not reply.error and reply.status >= 300:
            method, path, _ = prepared.template.payload.split(b" ", 2)
            reply = yield from self._follow(reply, method.decode(), world.without_prefix(path.decode("latin-1")), redirects_max, prepared.column.name, b"")
        return reply

    def post(self, path: str, *, json: Any = None, body: str | bytes = b"", name: str = "", headers: dict[str, str] | None = None) -> Awaitable[Reply]:
        """Sends a POST request."""
        return self.request("POST", path, json=json, body=body, name=name, headers=headers)

    def put(self, path: str, *, json: Any = None, body: str | bytes = b"", name: str = "", headers: dict[str, str] | None = None) -> Awaitable[Reply]:
        """Sends a PUT request."""
        return self.request("PUT", path, json=json, body=body, name=name, headers=headers)

    def patch(self, path: str, *, json: Any = None, body: str | bytes = b"", name: str = "", headers: dict[str, str] | None = None) -> Awaitable[Reply]:
        """Sends a PATCH request."""
        return self.request("PATCH", path, json=json, body=body, name=name, headers=headers)

    def delete(self, path: str, *, name: str = "", headers: dict[str, str] | None = None) -> Awaitable[Reply]:
        """Sends a DELETE request."""
        return self.request("DELETE", path, name=name, headers=headers)

    def check(self, name: str, ok: object) -> bool:
        """Counts whether something is true. Where it is not, the request before it ends as ``check``, and the iteration as failed."""
        counts = self._world.checks.get(name)
        if counts is None:
            counts = self._world.checks.setdefault(name, [0, 0])
        if ok:
            counts[0] += 1
            return True
        counts[1] += 1
        self.fail(f"not {name}")
        return False

    def fail(self, detail: str, error: str = "check") -> None:
        """Says that the answer before was none that counts."""
        self.error = self.error or error
        head, self._last_head = self._last_head, None
        if head is not None and not head.error:
            self.column.unsay(head, self._last_size, error, detail)

    @coroutine
    def think(self, low_s: float, high_s: float | None = None) -> Generator[Any, Any, None]:
        """Waits ``low_s``, or evenly between the two; the next request is due when the time is over, however late we wake up."""
        wait_s = low_s if high_s is None else low_s + (high_s - low_s) * self.random.random()
        self._last_head = None
        self._world.sending.clock.at(_monotonic() + wait_s, self._wake)
        yield WAIT

    @property
    def random(self) -> Random:
        """Chance of this user's own, the same with the same seed."""
        if self._random is None:
            self._random = Random(f"{self._world.seed} user {self.id}")
        return self._random

    @coroutine
    def measured(self, name: str, awaitable: Awaitable[Any], size: Callable[[Any], int] = lambda _: 0) -> Generator[Any, Any, Any]:
        """Awaits anything of asyncio (a database driver, another client) and counts it as a step of this name. What it raises ends the step as ``protocol`` and goes on."""
        column = self.column = self._world.recorder.column(name)
        world, start_s = self._world, self._take_start()
        column.sent += 1
        world.sending.in_flight += 1
        self._last_head = None
        try:
            result = yield from self._foreign(awaitable)
        except Exception as error:
            column.failed(getattr(error, "perfloop_class", "protocol"), f"{type(error).__name__}: {error}", 0)
            raise
        finally:
            world.sending.in_flight -= 1
        head = world.no_head
        self._last_head, self._last_size = head, size(result)
        column.answered(start_s, _monotonic(), head, self._last_size)
        return result

    @coroutine
    def run(self, awaitable: Awaitable[Any]) -> Generator[Any, Any, Any]:
        """Awaits anything of asyncio without counting it."""
        return (yield from self._foreign(awaitable))

    # ----- how a request starts

    def _follow(self, reply: Reply, method: str, path: str, redirects_max: int, name: str, content: bytes) -> Generator[Any, Any, Reply]:
        """Goes on where a redirect to this origin points; what was counted for it so far is taken back, and the last answer counts from the first start."""
        for _ in range(redirects_max):
            onward = self._world.redirect(reply, method, path)
            if onward is None:
                break
            method, path = onward
            began_s, column = self.intended_s, self.column
            if self._last_head is not None:
                column.take_back(self._last_head, self._last_size)
            body = b"" if method in ("GET", "HEAD") else content
            self._relaunch(self._world.prepare(method, path, name or column.name, None, body), began_s)
            reply = yield WAIT
        return reply

    def _launch(self, prepared: Prepared) -> None:
        start_s = self._take_start()
        if self._world.sending.on:  # what is due after the end is not sent: the journey waits for an answer that will not come
            self._relaunch(prepared, start_s)
            self.column.sent += 1

    def _relaunch(self, prepared: Prepared, start_s: float) -> None:
        sending = self._world.sending
        template = prepared.template
        self.column, self.payload, self.head, self.idempotent = prepared.column, template.payload, template.head, template.idempotent
        if self._cookies:
            self.payload = self._world.with_cookies(template.payload, self._cookies)
        self.column.bytes_out += len(self.payload)
        self.intended_s = start_s
        self.sent_s = 0.0
        self.retried = False
        self.active = True
        sending.in_flight += 1
        sending.pool.submit(self)

    def _take_start(self) -> float:
        first_s = self._first_s
        if first_s:
            self._first_s = 0.0
            self._world.recorder.lates.append(_monotonic() - first_s)
            return first_s
        return _monotonic()

    def _resume(self, value: Any) -> None:
        raise NotImplementedError  # ``users.User`` knows how a journey goes on

    def _wake(self, due_s: float) -> None:
        if self._send is not None:
            self._first_s = due_s
            self._resume(None)

    def _foreign(self, awaitable: Awaitable[Any]) -> Generator[Any, Any, Any]:
        task = asyncio.ensure_future(awaitable)
        try:
            return (yield from task)
        finally:
            task.cancel()
