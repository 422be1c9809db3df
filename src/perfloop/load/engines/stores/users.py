"""Users of a database or cache, and the connections that they ask on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from types import coroutine
from typing import TYPE_CHECKING, Any, Protocol, cast

from perfloop.load.engines.asking import WAIT
from perfloop.load.engines.calls import PAUSE_S, Call
from perfloop.load.engines.pool import OURS, OursError
from perfloop.load.engines.recorder import Column
from perfloop.load.engines.stores.answers import Answer, StoreError
from perfloop.load.engines.users import User

if TYPE_CHECKING:
    from perfloop.load.engines.stores.world import StoreWorld


class Client(Protocol):
    """One connection, of any driver."""

    sound: bool

    async def connect(self) -> None:
        """Opens it; ``StoreError``."""
        ...

    async def ask(self, text: str, values: Sequence[Any]) -> Answer:
        """One question and its answer; ``StoreError``."""
        ...

    def abort(self) -> None:
        """Closes it at once."""
        ...


class Connections:
    """What ``Sending`` calls its pool: shared connections, the most recent first, within the bound; with ``own`` each user has one."""

    def __init__(self, make: Callable[[], Client], connections_max: int, own: bool, connect_s: float | None) -> None:
        self._make, self._own, self._connect_s = make, own, connect_s
        self._room = asyncio.Semaphore(connections_max)
        self._free: list[Client] = []
        self.clients: set[Client] = set()
        self.broken: OursError | None = None

    async def take(self) -> Client:
        """A connection that is ready; waits for one where there are enough. ``StoreError`` where it cannot be opened."""
        if not self._own:
            await self._room.acquire()
        try:
            while self._free:
                client = self._free.pop()
                if client.sound:
                    return client
                self.clients.discard(client)
            return await self._open()
        except BaseException:
            if not self._own:
                self._room.release()
            raise

    def give(self, client: Client) -> None:
        """A shared connection is free again, or of no more use."""
        if client.sound:
            self._free.append(client)
        else:
            self.lost(client)
        self._room.release()

    def lost(self, client: Client) -> None:
        """A connection is of no more use."""
        client.abort()
        self.clients.discard(client)

    def drop(self, call: Call) -> None:
        """A call is over before it was answered: its user knows what to do."""

    def refill(self) -> None:
        """Who waits is served as soon as a connection is free."""

    def close(self) -> None:
        """Ends all connections."""
        for client in self.clients:
            client.abort()

    async def _open(self) -> Client:
        client = self._make()
        self.clients.add(client)
        try:
            async with asyncio.timeout(self._connect_s):
                await client.connect()
        except BaseException as error:
            self.lost(client)
            if isinstance(error, TimeoutError):
                raise StoreError("timeout_connect", f"no connection within {self._connect_s:g} s") from error
            self._ours(error)
            raise
        return client

    def _ours(self, error: BaseException | None) -> None:
        """What is missing on our side is never the service's fault: the window is worth nothing."""
        while error is not None:
            if isinstance(error, OSError) and error.errno in OURS:
                what, fix = OURS[error.errno]
                self.broken = OursError(f"{what}: {error}", fix)
            error = error.__cause__ or error.__context__


class StoreUser(User):
    """A user of a database or cache. In a journey: ``await user.sql(text, *values)`` with ``%s`` for each value, ``await user.redis("GET", "key")``."""

    __slots__ = ("_client", "_task")

    def __init__(self, world: StoreWorld, number: int) -> None:
        super().__init__(world, number)
        self._client: Client | None = None
        self._task: asyncio.Task[Answer] | None = None

    @property
    def _store(self) -> StoreWorld:
        return cast("StoreWorld", self._world)

    @coroutine
    def sql(self, text: str, *values: Any, name: str = "", timeout_s: float | None = None) -> Generator[Any, Any, Answer]:
        """Asks the database; ``name`` is the label in the results, empty: the statement without its literals. The guard reads the text first."""
        label = self._store.checked(text, bool(values))
        return (yield from self.ask(self._world.recorder.column(name or label), text, values, timeout_s))

    @coroutine
    def redis(self, *words: Any, name: str = "", timeout_s: float | None = None) -> Generator[Any, Any, Answer]:
        """Sends one Redis command; ``name`` is the label in the results, empty: the command's name."""
        self._store.check_command(words)
        return (yield from self.ask(self._world.recorder.column(name or str(words[0]).upper()), "", words, timeout_s))

    @coroutine
    def ask(self, column: Column, text: str, values: Sequence[Any], timeout_s: float | None) -> Generator[Any, Any, Answer]:
        """Asks what was checked before, and waits for the answer."""
        sending = self._world.sending
        start_s = self._take_start()
        if sending.on:  # what is due after the end is not sent: the journey waits for an answer that will not come
            self.column, self.intended_s, self.timeout_s = column, start_s, timeout_s or sending.timeout_s
            self.active = True
            column.sent += 1
            sending.in_flight += 1
            self._last_head = None
            self._task = asyncio.get_running_loop().create_task(self._run(text, values))
            self._task.add_done_callback(self._asked)
        answer: Answer = yield WAIT
        return answer

    def failed(self, error: str, detail: str, size: int) -> None:
        """It took too long: the question is given up."""
        if not self.active:
            return
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self._ended(StoreError(error, detail))

    def stop(self) -> None:
        """Ends a journey in the middle."""
        super().stop()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def _run(self, text: str, values: Sequence[Any]) -> Answer:
        connections = self._store.connections
        own = self._world.sending.own
        client = self._client if own and self._client is not None and self._client.sound else await connections.take()
        self._client = client if own else None
        try:
            return await client.ask(text, values)
        except asyncio.CancelledError:
            client.sound = False  # an answer may be on its way
            raise
        finally:
            if not own:
                connections.give(client)
            elif not client.sound:
                connections.lost(client)

    def _asked(self, task: asyncio.Task[Answer]) -> None:
        if task is not self._task:
            if not task.cancelled():
                task.exception()  # it was given up: what came of it is nobody's
            return
        self._task = None
        failure = task.exception()
        if failure is not None:
            self._ended(failure if isinstance(failure, StoreError) else StoreError("script", f"{type(failure).__name__}: {failure}"))
            return
        now_s, world, answer, column = time.monotonic(), self._world, task.result(), self.column
        self.active = False
        world.sending.in_flight -= 1
        answer.latency_s = now_s - self.intended_s
        column.bytes_out += answer.sent_bytes
        column.answered(self.intended_s, now_s, world.no_head, answer.size_bytes)
        self._last_head, self._last_size = world.no_head, answer.size_bytes
        self._resume(answer)

    def _ended(self, failure: StoreError) -> None:
        self.active = False
        self._world.sending.in_flight -= 1
        self.column.failed(failure.error, str(failure), 0)
        self.error = self.error or failure.error
        if self._send is not None:
            # as with HTTP: not in the middle of whatever found out, and a dead server is not asked in a spin
            answer = Answer(error=failure.error)
            self._world.sending.clock.at(time.monotonic() + PAUSE_S, lambda _: self._resume(answer))
