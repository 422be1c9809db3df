"""The candidates of each product, the most promising first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from perfloop.model.finding import Proposal

MIB = 2**20


@dataclass(frozen=True)
class Facts:
    """What the candidates depend on. ``settings`` are the live values by name; ``where`` is what the kind needs to find the server."""

    memory_bytes: int
    cpus: int
    settings: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, Any] = field(default_factory=dict)


def candidates_for(product: str, facts: Facts) -> tuple[Proposal, ...]:
    """Settings to race for this product; those that are so already are left out."""
    return tuple(_PRODUCTS[product](facts))


def _postgresql(facts: Facts) -> list[Proposal]:
    """Sources: PostgreSQL manual, "Resource Consumption", "Query Planning", "JIT"; PostgreSQL wiki, "Tuning Your PostgreSQL Server"."""
    connections = int(facts.settings.get("max_connections", "100"))
    # every connection may sort: a third of the memory for all of them, within 16 MB to 256 MB
    work_mem = max(16, min(256, int(facts.memory_bytes / 3 / connections / MIB)))
    wanted = [
        ("work_mem", f"{_below(work_mem)}MB", "sorts and hashes that do not fit are written to disk"),
        ("work_mem", "16MB", "the same, where memory is short"),
        ("jit", "off", "compiling costs more than it saves where statements take milliseconds"),
        ("random_page_cost", "1.1", "data in memory or on an SSD: an index read costs little more than a sequential one"),
        ("effective_cache_size", f"{facts.memory_bytes * 3 // 4 // MIB}MB", "the planner expects what the kernel really caches"),
        ("max_parallel_workers_per_gather", "0", "short statements on few cores: parallel workers cost their start"),
        ("effective_io_concurrency", "200", "an SSD reads many pages at a time"),
        ("max_wal_size", "4GB", "checkpoints by time, not by the amount written"),
    ]
    return [_setting("postgres-setting", name, value, reason, facts) for name, value, reason in wanted if facts.settings.get(name) != value]


def _redis(facts: Facts) -> list[Proposal]:
    """Sources: Redis manual, "Memory optimization" (compact encodings cost CPU), "Latency"; redis.conf on lazy freeing."""
    wanted = [
        ("zset-max-listpack-entries", "16", "a compact sorted set is searched from its beginning: each lookup costs its length"),
        ("hash-max-listpack-entries", "16", "a compact hash is searched from its beginning"),
        ("set-max-listpack-entries", "16", "a compact set is searched from its beginning"),
        ("zset-max-ziplist-entries", "16", "the same before Redis 7"),
        ("hash-max-ziplist-entries", "16", "the same before Redis 7"),
        ("lazyfree-lazy-user-del", "yes", "DEL of a large key blocks everybody until it is freed"),
        ("lazyfree-lazy-server-del", "yes", "overwriting a large key blocks everybody until the old one is freed"),
        ("lazyfree-lazy-expire", "yes", "expiry of a large key blocks everybody until it is freed"),
        ("activerehashing", "no", "rehashing in the background takes a millisecond a time from requests"),
    ]
    known = {name for name in facts.settings if "listpack" in name}
    return [
        _setting("redis-setting", name, value, reason, facts)
        for name, value, reason in wanted
        if name in facts.settings and facts.settings[name] != value and not (known and "ziplist" in name)
    ]


def _nginx(facts: Facts) -> list[Proposal]:
    """Sources: nginx manual, modules core, http_gzip_static, http_core, http_log; "Tuning NGINX for Performance"."""
    wanted = [
        ("http.gzip_static", "on", "compressed files that the build made are sent as they are, instead of compressing each answer anew"),
        ("http.gzip_comp_level", "1", "higher levels cost much time for few bytes"),
        ("http.open_file_cache", "max=10000 inactive=60s", "files are not looked up and opened for every request"),
        ("http.sendfile", "on", "files go from the page cache to the socket without being copied"),
        ("http.tcp_nopush", "on", "headers and the beginning of a file go in one packet"),
        ("worker_processes", str(facts.cpus), "one worker a core"),
        ("events.multi_accept", "on", "a worker takes all connections that wait at once"),
        ("http.gzip_proxied", "any", "answers to clients behind proxies are compressed too"),
    ]
    return [
        Proposal(kind="nginx-setting", title="", params={"key": key, "value": value, "because": reason, **facts.where})
        for key, value, reason in wanted
        if facts.settings.get(key) != value and not (key == "worker_processes" and facts.settings.get(key) == "auto")
    ]


def _gunicorn(facts: Facts) -> list[Proposal]:
    """Source: gunicorn documentation, "How many workers?": (2 × cores) + 1 to begin with; more where workers wait more than they compute."""
    counts = dict.fromkeys((2 * facts.cpus + 1, 4 * facts.cpus + 1, 8 * facts.cpus + 1, facts.cpus))
    now = int(facts.settings.get("workers", "0"))
    return [
        Proposal(kind="workers", title="", params={"workers": count, "because": "requests wait for a free worker", **facts.where})
        for count in counts
        if count != now and count > 1
    ]


def _setting(kind: str, name: str, value: str, reason: str, facts: Facts) -> Proposal:
    return Proposal(kind=kind, title="", params={"name": name, "value": value, "because": reason, **facts.where})


def _below(number: int) -> int:
    """The power of two at or below it."""
    return 1 << (number.bit_length() - 1)


_PRODUCTS: dict[str, Callable[[Facts], list[Proposal]]] = {"postgresql": _postgresql, "redis": _redis, "nginx": _nginx, "gunicorn": _gunicorn}
