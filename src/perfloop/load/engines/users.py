"""Users with a state, who run journeys: coroutines that are driven by hand, because a task and a future for each request cost more than the request.

A journey is an ``async def`` function of one argument, the user. It is continued by the response itself, in the same call that
read it, until it waits for the next one.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from perfloop.load.engines.asking import WAIT, Asking, Program, StepFailed
from perfloop.load.engines.calls import PAUSE_S
from perfloop.load.engines.heads import Head
from perfloop.load.engines.reply import Reply, ReplyError

if TYPE_CHECKING:
    from perfloop.load.engines.connection import Connection

_monotonic = time.monotonic


class User(Asking):
    """One user: everything that ``Asking`` says, and how its journey goes on."""

    __slots__ = ()

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
