"""Connections to Redis for changes: from a DSN, with limits, and errors without secrets."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from perfloop.errors import CannotMeasure, UsageError

TIMEOUT_S = 10


def connect_redis(dsn: str) -> Any:
    """A client by ``redis://user:password@host:port/0``, ``rediss://…`` or ``unix:///path``, that has answered once.

    Raises UsageError for what is no such DSN, CannotMeasure where the server is not there or refuses.
    """
    import redis

    if urlsplit(dsn).scheme not in ("redis", "rediss", "unix"):
        raise UsageError("the DSN is not one of Redis", fix="write redis://host:port/0")
    try:
        client = redis.Redis.from_url(dsn, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, decode_responses=True)
        client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        raise CannotMeasure(
            f"cannot connect to Redis at {urlsplit(dsn).hostname or 'its socket'}", why=redis_text(error), fix="check the DSN with redis-cli"
        ) from None
    return client


def redis_text(error: BaseException) -> str:
    """The server's words of an error, on one line; servers and drivers repeat no password."""
    return " ".join(str(error).split())[:300]


def command_flags(client: Any) -> dict[str, frozenset[str]]:
    """What the server says of its commands: flags (readonly, write, admin …) by name in small letters, subcommands as ``config|get``. CannotMeasure where it does not tell."""
    import redis

    try:
        told = client.connection_pool.make_connection()
        told.connect()
        told.send_command("COMMAND")
        commands = told.read_response()
        told.disconnect()
    except (redis.RedisError, OSError) as error:
        raise CannotMeasure(
            "the Redis server does not say what its commands do", why=redis_text(error), fix="let the user run COMMAND: ACL SETUSER NAME +command"
        ) from None
    found: dict[str, frozenset[str]] = {}
    for command in commands:
        for entry in (command, *(command[9] if len(command) > 9 else ())):  # Redis 7 lists subcommands at this place
            found[_name(entry[0])] = frozenset(_name(flag) for flag in entry[2])
    return found


def _name(word: Any) -> str:
    return (word.decode() if isinstance(word, bytes) else str(word)).lower()
