"""What was seen of other engines: Redis, Memcached, MySQL and MariaDB, MongoDB. Counters are deltas over the window unless the name says otherwise."""

from __future__ import annotations

from perfloop.model.base import Word


class CommandLoad(Word):
    """One command over the window."""

    name: str
    calls: int
    total_ms: float


class SlowEntry(Word):
    """One kind of slow command or statement, values hidden."""

    text: str
    count: int
    worst_ms: float
    total_ms: float
    rows_examined: int = 0
    rows_sent: int = 0
    no_index: bool = False
    temp_on_disk: bool = False


class BigKey(Word):
    """A key that is much larger than others; digits of its name hidden."""

    name: str
    kind: str
    bytes: int
    elements: int


class RedisObservation(Word):
    """One Redis server. ``info`` are its own figures at the end of the window, ``delta`` those that count, over it."""

    window_s: float
    host: str
    port: int
    version: str
    info: dict[str, float] = {}
    delta: dict[str, float] = {}
    config: dict[str, str] = {}
    commands: tuple[CommandLoad, ...] = ()
    slow: tuple[SlowEntry, ...] = ()
    big_keys: tuple[BigKey, ...] = ()
    keys: int = 0
    keys_sampled: int = 0
    keys_without_ttl: int = 0  # of those sampled
    clients_waiting: int = 0


class MemcachedObservation(Word):
    """One Memcached server; ``stats`` at the end, ``delta`` over the window, ``evicted_slabs`` classes (chunk bytes → evictions)."""

    window_s: float
    host: str
    port: int
    version: str
    stats: dict[str, float] = {}
    delta: dict[str, float] = {}
    evicted_slabs: dict[str, float] = {}


class MysqlLock(Word):
    """Who waits for whose row lock; statements without values."""

    waiting: str
    blocking: str
    table: str
    seconds: float
    samples: int


class MysqlIndex(Word):
    """An index that another one makes needless, or that was never used."""

    table: str
    name: str
    columns: tuple[str, ...]
    covered_by: str = ""


class MysqlObservation(Word):
    """One MySQL or MariaDB server. ``status`` are deltas of SHOW GLOBAL STATUS, ``now`` values of it at the end."""

    window_s: float
    host: str
    port: int
    version: str
    mariadb: bool
    status: dict[str, float] = {}
    now: dict[str, float] = {}
    variables: dict[str, str] = {}
    statements: tuple[SlowEntry, ...] = ()  # digests, the slow log, or what was seen running
    statements_source: str = ""
    locks: tuple[MysqlLock, ...] = ()
    redundant: tuple[MysqlIndex, ...] = ()
    oldest_transaction_s: float = 0.0
    oldest_transaction: str = ""
    samples: int = 0


class MongoObservation(Word):
    """Documents of a MongoDB server, or recorded ones (untested against a server)."""

    window_s: float = 0.0
    source: str = ""
    operations: tuple[SlowEntry, ...] = ()
    unused_indexes: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()  # indexes by the equality, sort, range rule
    waiting_for_lock: int = 0
