"""One connection to Redis: one command at a time. What a command may do is told by the server itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis import exceptions
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from perfloop.load.engines.stores.answers import Answer, StoreError
from perfloop.sql.redis import redis_text


class Client:
    """Opened by ``connect``; of no more use where ``sound`` is False."""

    def __init__(self, dsn: str, statement_max_s: float, connect_max_s: float, writes_allowed: bool) -> None:
        # a command is never sent twice, and how long it may take is for the users to say
        pool = ConnectionPool.from_url(dsn, socket_connect_timeout=connect_max_s, socket_timeout=None, retry=Retry(NoBackoff(), 0))
        self._connection: Any = pool.make_connection()  # type: ignore[no-untyped-call]
        self.sound = True

    async def connect(self) -> None:
        """Opens it; ``StoreError``."""
        try:
            await self._connection.connect()
        except (exceptions.RedisError, OSError) as error:
            self.abort()
            raise StoreError("connect", redis_text(error)) from error

    async def ask(self, text: str, values: Sequence[Any]) -> Answer:
        """The answer of one command, whose words are the values; ``StoreError``."""
        connection = self._connection
        try:
            packed = connection.pack_command(*values)
            await connection.send_packed_command(packed, check_health=False)
            said = await connection.read_response()
        except exceptions.DataError as error:
            raise StoreError("script", redis_text(error)) from error
        except exceptions.AuthenticationError as error:
            raise StoreError("server_error", redis_text(error)) from error
        except (exceptions.ConnectionError, OSError) as error:
            self.abort()
            raise StoreError("reset", redis_text(error)) from error
        except exceptions.ResponseError as error:
            raise StoreError("server_error", redis_text(error)) from error
        except exceptions.RedisError as error:
            self.abort()
            raise StoreError("protocol", redis_text(error)) from error
        answer = Answer(said)
        answer.size_bytes, answer.sent_bytes = _size(said), sum(map(len, packed))
        return answer

    def abort(self) -> None:
        """Closes it at once, whatever it does."""
        self.sound = False
        writer = getattr(self._connection, "_writer", None)
        if writer is not None:
            writer.transport.abort()


def _size(said: Any) -> int:
    """Bytes of the values in an answer."""
    if isinstance(said, bytes | str):
        return len(said)
    if isinstance(said, dict):
        return sum(_size(key) + _size(value) for key, value in said.items())
    if isinstance(said, list | tuple | set):
        return sum(map(_size, said))
    return len(str(said)) if isinstance(said, int | float) else 0
