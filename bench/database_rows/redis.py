"""Redis: ten planted faults and a healthy control on a real server each."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.database_tools.faults import Load, named
from bench.table import Row

sys.path.append(str(Path(__file__).parents[2] / "tests"))


@dataclass(frozen=True)
class Fault:
    cause: str  # empty: healthy
    prepare: Callable[[Any], None]
    loads: Callable[[Callable[[], Any]], list[Load]]
    options: tuple[str, ...] = ()


def fill(count: int, size: int = 20, ttl: int | None = 600, prefix: str = "item") -> Callable[[Any], None]:
    def work(client: Any) -> None:
        pipe = client.pipeline(transaction=False)
        for number in range(count):
            pipe.set(f"{prefix}:{number}", "v" * size, ex=ttl)
        pipe.execute(raise_on_error=False)

    return work


def ordinary(connect: Callable[[], Any], rate_per_s: float = 100.0) -> Load:
    """Reads that hit, at a modest rate, by one connection."""

    def work(stop: threading.Event) -> None:
        client = connect()
        number = 0
        while not stop.is_set():
            client.get(f"item:{number % 500}")
            number += 7
            time.sleep(1 / rate_per_s)

    return work


def each(do: Callable[[Any, int], Any], rate_per_s: float = 200.0, again: bool = False) -> Callable[[Callable[[], Any]], list[Load]]:
    def loads(connect: Callable[[], Any]) -> list[Load]:
        def work(stop: threading.Event) -> None:
            client, number = connect(), 0
            while not stop.is_set():
                if again:
                    client.close()
                    client = connect()
                try:
                    do(client, number)
                except Exception:  # noqa: BLE001 - refused writes are the fault
                    pass
                number += 1
                if rate_per_s:
                    time.sleep(1 / rate_per_s)

        return [ordinary(connect), work]

    return loads


def both(*steps: Callable[[Any], None]) -> Callable[[Any], None]:
    def work(client: Any) -> None:
        for step in steps:
            step(client)

    return work


def big_hash(client: Any) -> None:
    for start in range(0, 60_000, 5_000):
        client.hset("profile:all", mapping={f"f{n}": "x" * 40 for n in range(start, start + 5_000)})


FAULTS = {
    "KEYS in the service": Fault("redis-keys", fill(100_000), each(lambda c, n: c.keys("item:99*"), 5)),
    "HGETALL of a huge hash": Fault("redis-slow-command", both(fill(1_000), big_hash), each(lambda c, n: c.hgetall("profile:all"), 4)),
    "a script that loops": Fault("redis-slow-script", fill(1_000), each(lambda c, n: c.eval("local s = 0 for i = 1, 3000000 do s = s + i end return s", 0), 4)),
    "a big key that nobody reads whole": Fault("redis-big-key", both(fill(1_000), big_hash), each(lambda c, n: c.hget("profile:all", f"f{n}"), 100)),
    "evictions": Fault("redis-evicting", fill(1_000), each(lambda c, n: c.set(f"new:{n}", "x" * 4000, ex=600), 800), ("--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru")),
    "full, and nothing may be evicted": Fault("redis-out-of-memory", fill(1_000), each(lambda c, n: c.set(f"new:{n}", "x" * 4000), 1500), ("--maxmemory", "6mb", "--maxmemory-policy", "noeviction")),
    "keys that never expire": Fault("redis-no-ttl", fill(30_000, ttl=None), each(lambda c, n: c.set(f"session:{n}", "x"), 200)),
    "lookups that miss": Fault("redis-misses", fill(500), each(lambda c, n: c.get(f"absent:{n}"), 400)),
    "a disk write for each command": Fault("redis-fsync-always", fill(500), each(lambda c, n: c.set(f"item:{n % 500}", "y", ex=600), 200), ("--appendonly", "yes", "--appendfsync", "always")),
    "snapshots all the time": Fault("redis-saves-often", fill(5_000), each(lambda c, n: c.set(f"item:{n % 5000}", "y", ex=600), 200), ("--save", "1 1")),
    "a connection for each command": Fault("redis-connection-churn", fill(500), each(lambda c, n: c.get(f"item:{n % 500}"), 300, again=True)),
    "single reads in a loop": Fault("redis-chatty", fill(500), each(lambda c, n: c.get(f"item:{n % 500}"), 0)),
    "healthy": Fault("", fill(3_000), each(lambda c, n: c.set(f"item:{n % 3000}", "z", ex=600), 50)),
}  # fmt: skip


def rows(options: Any) -> list[Row]:
    """One server a fault; right where the fault is named first."""
    results = {name: run(fault) for name, fault in FAULTS.items()}
    for name, got in results.items():
        print(f"  {'ok' if right(FAULTS[name], got) else 'NO'}  redis: {name}: {got}", flush=True)
    planted = [name for name, fault in FAULTS.items() if fault.cause]
    good = sum(right(FAULTS[name], results[name]) for name in planted)
    needed = 0.9 * len(planted)
    return [
        Row(f"Redis: planted faults named first, of {len(planted)}", float(good), "", f"≥ {needed:.0f}", good >= needed),
        Row("Redis: findings on the healthy control", float(len(results["healthy"])), "", "0", not results["healthy"]),
    ]


def right(fault: Fault, got: list[str]) -> bool:
    return got[:1] == [fault.cause] if fault.cause else not got


def run(fault: Fault) -> list[str]:
    import redis

    from perfloop.diagnose.rules.cache import redis_health
    from perfloop.model.target import PeerKind
    from perfloop.observe.base import Access
    from perfloop.observe.probes import redis as probe
    from services.redis import redis_server

    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder), *fault.options) as server:

        def connect() -> Any:
            return redis.Redis(host=server.host, port=server.port)

        fault.prepare(connect())
        return named(probe, redis_health, Access(redis_dsn=f"redis://{server.host}:{server.port}/0"), PeerKind.REDIS, fault.loads(connect))


def main() -> Iterator[Row]:
    yield from rows(None)


if __name__ == "__main__":
    for row in main():
        print(row)
