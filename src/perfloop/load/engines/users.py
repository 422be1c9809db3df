"""Users with a state, who run journeys: coroutines that are driven by hand, because a task and a future for each request cost more than the request.

A journey is an ``async def`` function of one argument, the user. It is continued by the response itself, in the same call that
read it, until it waits for the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from random import Random
from types import coroutine
from typing import TYPE_CHECKING, Any

from perfloop.load.engines.calls import PAUSE_S, Call
from perfloop.load.engines.heads import Head
from perfloop.load.engines.recorder import Column, JourneyCount
from perfloop.load.engines.reply import Reply, ReplyError
from perfloop.load.engines.requests import Template

if TYPE_CHECKING:
    from perfloop.load.engines.connection import Connection
    from perfloop.load.engines.crowd import World

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


class User(Call):
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

    # ----- what a connection calls

    def answered(self, connection: Connection, head: Head, size: int, body_at: int) -> None:
        """A complete response came; the journey goes on with it, here and now."""
        now_s = _monotonic()
        world = self._world
        self.active = False
        world.sending.in_flight -= 1
        start_s = self.intended_s
        column = self.column
        if head.rest >= 0 and not head.error:
            column.starts.append(start_s)
            column.ends.append(now_s)
            column.heads.append(head)
        else:
            column.answered(start_s, now_s, head, size)
        reply = Reply(head, connection.take_body(size, body_at), head.error, size, now_s - start_s)
        self._last_head, self._last_size = head, size
        if not head.keep_alive or not world.sending.own:
            world.sending.pool.give_back(connection, head.keep_alive)
        if head.sets_cookie and world.cookies != "off":
            self._cookies = world.keep_cookies(self._cookies, head.cookies)
        if head.error:
            self.error = self.error or head.error
        self._resume(reply)

    def failed(self, error: str, detail: str, size: int) -> None:
        """The request ended without a complete response; the journey is told, and decides."""
        if not self.active:
            return
        self.active = False
        self._world.sending.in_flight -= 1
        self.column.failed(error, detail, size)
        self.error = self.error or error
        self._last_head = None
        if self._send is not None:
            # not in the middle of whatever found out; and a dead service is not asked in a spin
            self._world.sending.clock.at(_monotonic() + PAUSE_S, lambda _: self._resume(Reply.failed(error, size, 0.0)))

    # ----- iterations

    def begin(self, due_s: float, program: Program | None = None) -> None:
        """Starts an iteration that is due at this time, of this journey or of one by weight."""
        world = self._world
        if not world.sending.on:
            return
        program = self.program = program or world.choose()
        self._first_s = self._began_s = due_s
        self.error = ""
        if world.cookies != "user":
            self._cookies = None
        if program.feeds or self.vars:
            self.vars = {}
            for feed in program.feeds:
                self.vars.update(feed(self.iteration))
                if not world.sending.on:  # the rows are used up
                    return
        program.count.started += 1
        journey = program.function(self)
        self._send, self._close = journey.send, journey.close
        self.starting = True
        self._resume(None)
        self.starting = False

    def stop(self) -> None:
        """Ends a journey in the middle; its ``finally`` blocks run."""
        close, self._send, self._close = self._close, None, None
        if close is not None:
            try:
                close()
            except Exception:  # noqa: BLE001, S110 -- the journey is over, and it is the user's own code
                pass

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
        self._relaunch(prepared, start_s)
        if self.active:
            self.column.sent += 1

    def _relaunch(self, prepared: Prepared, start_s: float) -> None:
        sending = self._world.sending
        if not sending.on:
            return  # what is due after the end is not sent: the journey waits for an answer that will not come
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

    def _wake(self, due_s: float) -> None:
        if self._send is not None:
            self._first_s = due_s
            self._resume(None)

    def _resume(self, value: Any) -> None:
        try:
            wanted = self._send(value)
        except StopIteration:
            self._over(self.error)
        except StepFailed as failure:
            self._over(failure.error)
        except ReplyError as failure:
            self.fail(str(failure), failure.error)
            self._over(self.error)
        except Exception as error:  # noqa: BLE001 -- the journey is the user's own code: whatever it raises is counted and shown
            self._world.code_failed(self.program, error)
            self._over("script")
        else:
            if wanted is not WAIT:
                self._await(wanted)

    def _over(self, error: str) -> None:
        now_s = _monotonic()
        count = self.program.count
        self._send = self._close = None
        if error:
            count.errors[error] = count.errors.get(error, 0) + 1
        else:
            count.ok += 1
            count.durations.append(now_s - self._began_s)
        self._world.next(self, now_s)

    def _await(self, wanted: Any) -> None:
        """The journey awaits something of asyncio: it goes on when that is done."""
        if wanted is None:  # asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(self._continue, None)
        elif getattr(wanted, "_asyncio_future_blocking", None):
            wanted._asyncio_future_blocking = False
            wanted.add_done_callback(self._continue)
        else:
            self._world.code_failed(self.program, TypeError(f"a journey cannot await {wanted!r}"))
            self.stop()
            self._over("script")

    def _continue(self, _: Any) -> None:
        if self._send is not None:
            self._first_s = 0.0
            self._resume(None)

    def _foreign(self, awaitable: Awaitable[Any]) -> Generator[Any, Any, Any]:
        task = asyncio.ensure_future(awaitable)
        try:
            return (yield from task)
        finally:
            task.cancel()
