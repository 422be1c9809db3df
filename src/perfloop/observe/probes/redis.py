"""Redis: commands by time, the slow log, memory, eviction, hits, persistence; keys by a bounded SCAN. Reads only, and no key's value."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from perfloop.errors import CannotMeasure
from perfloop.model.engines import BigKey, CommandLoad, RedisObservation, SlowEntry
from perfloop.model.evidence import Unavailable
from perfloop.model.target import PeerKind, Target
from perfloop.observe.base import Access, Nothing, Observation, talks_to
from perfloop.sql.redis import connect_redis, redis_text

ID = "redis"
NEEDS = "the DSN of a Redis in target.redis"
COST = "INFO twice, and a SCAN of at most 2,000 keys after the window"

KEYS_MAX = 2_000
SCAN_MAX_S = 3.0
BIG_ELEMENTS = 5_000
BIG_BYTES = 1_000_000
_CONFIG = (
    "maxmemory",
    "maxmemory-policy",
    "appendonly",
    "appendfsync",
    "save",
    "maxclients",
    "activedefrag",
    "slowlog-log-slower-than",
    "timeout",
    "hz",
    "io-threads",
)
_SIZES = {"string": "strlen", "list": "llen", "hash": "hlen", "set": "scard", "zset": "zcard", "stream": "xlen"}


class RedisSession:
    """Counters at both ends of the window; the keys are looked at afterwards."""

    interval_s = None

    def __init__(self, client: Any, dsn: str) -> None:
        self._client = client
        parts = urlsplit(dsn)
        self._host, self._port = parts.hostname or parts.path, parts.port or (0 if parts.scheme == "unix" else 6379)
        self.begin()

    def begin(self) -> None:
        """Read the counters, and note where the slow log stands."""
        self._began_s = time.monotonic()
        self._first, self._commands = self._info()
        entries = self._client.slowlog_get(1)
        self._slow_after = entries[0]["id"] if entries else -1

    def sample(self) -> None:
        """Nothing between."""

    def finish(self) -> Sequence[Observation]:
        """Counters, slow log and configuration first, then a look at the keys."""
        window_s = time.monotonic() - self._began_s
        last, commands = self._info()
        slow = [entry for entry in self._client.slowlog_get(500) if entry["id"] > self._slow_after]
        keys, blank, sampled, big = self._keys()
        return (
            RedisObservation(
                window_s=window_s,
                host=self._host,
                port=self._port,
                version=str(self._client.info("server").get("redis_version", "")),
                info=last,
                delta={name: last[name] - self._first.get(name, 0.0) for name in last if last[name] >= self._first.get(name, 0.0)},
                config=self._config(),
                commands=_loads(self._commands, commands),
                slow=_slow(slow),
                big_keys=big,
                keys=keys,
                keys_sampled=sampled,
                keys_without_ttl=blank,
                clients_waiting=int(last.get("blocked_clients", 0)),
            ),
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _info(self) -> tuple[dict[str, float], dict[str, tuple[int, float]]]:
        figures: dict[str, float] = {}
        for name, value in self._client.info("everything").items():
            if isinstance(value, int | float):
                figures[name] = float(value)
            elif isinstance(value, str) and value in ("ok", "err"):
                figures[name] = 1.0 if value == "ok" else 0.0
        stats = self._client.info("commandstats")
        commands = {name.removeprefix("cmdstat_"): (int(row["calls"]), float(row["usec"]) / 1000) for name, row in stats.items() if isinstance(row, dict)}
        errors = self._client.info("errorstats")
        figures |= {f"error_{name.removeprefix('errorstat_')}": float(row["count"]) for name, row in errors.items() if isinstance(row, dict)}
        return figures, commands

    def _config(self) -> dict[str, str]:
        import redis

        try:
            return {name: str(value) for name in _CONFIG for name, value in self._client.config_get(name).items()}
        except redis.RedisError:  # renamed or not granted
            return {}

    def _keys(self) -> tuple[int, int, int, tuple[BigKey, ...]]:
        """(keys, without a TTL, sampled, the big ones)."""
        until, big, blank, sampled = time.monotonic() + SCAN_MAX_S, [], 0, 0
        whole = int(self._client.dbsize())
        cursor = 0
        while sampled < KEYS_MAX and time.monotonic() < until:
            cursor, names = self._client.scan(cursor, count=200)
            names = names[: KEYS_MAX - sampled]
            pipe = self._client.pipeline(transaction=False)
            for name in names:
                pipe.ttl(name)
                pipe.type(name)
                pipe.memory_usage(name, samples=3)
            answers = pipe.execute(raise_on_error=False)
            for number, name in enumerate(names):
                ttl, kind, size = answers[3 * number : 3 * number + 3]
                sampled += 1
                blank += ttl == -1
                if isinstance(size, int) and (size >= BIG_BYTES or kind != "string"):
                    elements = int(getattr(self._client, _SIZES[kind])(name)) if kind in _SIZES and size >= BIG_BYTES // 10 else 0
                    if size >= BIG_BYTES or (elements >= BIG_ELEMENTS and kind != "string"):
                        big.append(BigKey(name=_hidden(name), kind=kind, bytes=size, elements=elements))
            if cursor == 0:
                break
        return whole, blank, sampled, tuple(sorted(big, key=lambda key: -key.bytes)[:20])


def start(target: Target, access: Access) -> RedisSession | Nothing | Unavailable:
    """Connect; errors say which credential is missing."""
    import redis

    if not access.redis_dsn and not talks_to(target, PeerKind.REDIS):
        return Nothing()
    if not access.redis_dsn:
        return Unavailable(probe=ID, reason="no credential for Redis is configured", fix='[target] redis = "env:NAME" with its DSN')
    client = connect_redis(access.redis_dsn)
    try:
        return RedisSession(client, access.redis_dsn)
    except (redis.RedisError, OSError) as error:
        client.close()
        raise CannotMeasure(
            "Redis does not tell what it does", why=redis_text(error), fix="grant the user +info +slowlog +config|get +scan +ttl +type +memory|usage"
        ) from None


def _loads(first: dict[str, tuple[int, float]], last: dict[str, tuple[int, float]]) -> tuple[CommandLoad, ...]:
    found = []
    for name, (calls, total) in last.items():
        before = first.get(name, (0, 0.0))
        if calls > before[0]:
            found.append(CommandLoad(name=name.replace("|", " "), calls=calls - before[0], total_ms=total - before[1]))
    return tuple(sorted(found, key=lambda load: -load.total_ms))


def _slow(entries: list[dict[str, Any]]) -> tuple[SlowEntry, ...]:
    by: dict[str, list[float]] = {}
    for entry in entries:
        command = entry["command"]  # bytes, whatever the client decodes
        words = (command.decode(errors="replace") if isinstance(command, bytes) else str(command)).split()
        key = " ".join([words[0].upper(), *(_hidden(word) for word in words[1:2])]) if words else "?"
        by.setdefault(key, []).append(float(entry["duration"]) / 1000)
    found = [SlowEntry(text=text, count=len(times), worst_ms=max(times), total_ms=sum(times)) for text, times in by.items()]
    return tuple(sorted(found, key=lambda entry: -entry.total_ms)[:50])


def _hidden(name: str) -> str:
    """A key's name with its numbers and long random parts hidden: they may be personal."""
    return re.sub(r"[0-9a-fA-F]{8,}|\d+|[^\s:]+@[^\s:]+", "?", name)[:120]
