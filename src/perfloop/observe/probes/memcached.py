"""Memcached: hits, evictions, slabs and connections, by its own counters at both ends of the window."""

from __future__ import annotations

import time
from collections.abc import Sequence

from perfloop.model.engines import MemcachedObservation
from perfloop.model.evidence import Unavailable
from perfloop.model.target import PeerKind, Target
from perfloop.observe.base import Access, Nothing, Observation, talks_to
from perfloop.sql.memcached import stats

ID = "memcached"
NEEDS = "the address of a Memcached in target.memcached"
COST = "two readings of its counters"


class MemcachedSession:
    """Counters at both ends."""

    interval_s = None

    def __init__(self, address: str) -> None:
        self._address = address
        self.begin()

    def begin(self) -> None:
        """Read the counters."""
        self._began_s = time.monotonic()
        self._first, self._items = _numbers(stats(self._address)), _numbers(stats(self._address, "items"))

    def sample(self) -> None:
        """Nothing between."""

    def finish(self) -> Sequence[Observation]:
        """Read them again."""
        window_s, raw = time.monotonic() - self._began_s, stats(self._address)
        last, items, slabs = _numbers(raw), _numbers(stats(self._address, "items")), _numbers(stats(self._address, "slabs"))
        host, _, port = self._address.rpartition(":")
        evicted: dict[str, float] = {}
        for name, value in items.items():
            if name.endswith(":evicted") and value > self._items.get(name, 0.0):
                number = name.split(":")[1]
                evicted[f"{slabs.get(f'{number}:chunk_size', 0):.0f}"] = value - self._items.get(name, 0.0)
        return (
            MemcachedObservation(
                window_s=window_s,
                host=host,
                port=int(port),
                version=raw.get("version", ""),
                stats=last,
                delta={name: value - self._first.get(name, 0.0) for name, value in last.items() if value >= self._first.get(name, 0.0)},
                evicted_slabs=evicted,
            ),
        )

    def close(self) -> None:
        """Nothing is held."""


def start(target: Target, access: Access) -> MemcachedSession | Nothing | Unavailable:
    """A session where an address is configured."""
    if not access.memcached and not talks_to(target, PeerKind.MEMCACHED):
        return Nothing()
    if not access.memcached:
        return Unavailable(probe=ID, reason="no address of a Memcached is configured", fix='[target] memcached = "host:port"')
    return MemcachedSession(access.memcached)


def _numbers(raw: dict[str, str]) -> dict[str, float]:
    found = {}
    for name, value in raw.items():
        try:
            found[name] = float(value)
        except ValueError:
            continue
    return found
