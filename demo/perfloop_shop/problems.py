"""The problems by name, and what each changes outside the service's code: delays of the supplier, the pool, an index."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from perfloop.errors import UsageError

PROBLEMS = {
    "missing-index": "orders are looked up by a column without an index",
    "n-plus-one": "the newest orders load their lines and products one by one",
    "pool-exhausted": "a connection is held across the supplier's call, and there are two",
    "event-loop-blocked": "a coroutine calls the supplier with the blocking client",
    "cpu-hot-spot": "a checksum bit by bit in Python for each line of a list",
    "superlinear": "duplicates are looked for in a list",
    "memory-leak": "a history of page views that nothing ever trims",
    "lock-contention": "one lock around the supplier's calls, for a counter",
    "cache-ineffective": "a cache whose key is never the same twice",
    "slow-downstream": "the supplier takes 180 ms",
}
FOR_DEMO = ("missing-index", "pool-exhausted", "n-plus-one")


@dataclass(frozen=True)
class Surroundings:
    """What the stack sets up around the service."""

    pool_size: int = 10
    stock_delay_ms: float = 3.0
    quote_delay_ms: float = 4.0
    customer_index: bool = True


def checked(names: Iterable[str]) -> tuple[str, ...]:
    """The names in the order of ``PROBLEMS``; an unknown one is a ``UsageError`` that lists them."""
    wanted = [name.strip() for name in names if name.strip()]
    unknown = [name for name in wanted if name not in PROBLEMS]
    if unknown:
        raise UsageError(f"the shop has no problem {unknown[0]!r}", why=f"it has {', '.join(PROBLEMS)}", fix=f"--problems {','.join(FOR_DEMO)}")
    return tuple(name for name in PROBLEMS if name in wanted)


def surroundings(problems: Iterable[str]) -> Surroundings:
    """What must be set up for these problems together: the slowest supplier that any of them needs."""
    on = set(problems)
    stock = {"pool-exhausted": 40.0, "lock-contention": 25.0, "slow-downstream": 180.0}
    quote = {"event-loop-blocked": 28.0, "slow-downstream": 180.0}
    return Surroundings(
        pool_size=1 if "pool-exhausted" in on else 10,
        stock_delay_ms=max([3.0, *(delay for name, delay in stock.items() if name in on)]),
        quote_delay_ms=max([4.0, *(delay for name, delay in quote.items() if name in on)]),
        customer_index="missing-index" not in on,
    )
