"""Redis is used or set up in a way that costs everybody who talks to it.

What it finds
    Commands that walk all keys or whole collections, keys that are too big, evictions, a full memory that refuses writes, keys that never expire, misses,
    a disk write for each command, snapshots all the time, connections made anew for each command, single reads that could go together, fragmentation.

Why it costs you
    Redis runs one command after another: what takes 100 ms for one client stops all others for 100 ms.

How it decides
    From two readings of INFO, the slow log and a bounded SCAN. Commands of one kind must take ``busy_min`` of the server's time, or entries of the slow log
    ``slow_ms`` each; evictions and refused writes must come at ``evicted_min`` a second; fewer than ``hit_min`` of at least ``reads_min`` lookups hit.
    Connections are churn from ``connections_min`` a second on and ``churn_min`` of the commands.

What would disprove it
    The server's own counters over a longer window show none of it, or the change that is named leaves the latency of its clients as it was.

How to fix
    As each finding says: another command, a smaller key, a TTL, more memory or another policy, another fsync, a pool of connections, a pipeline.

Sources
    Redis documentation: "Diagnosing latency issues", "Key eviction", "Persistence", "SLOWLOG", "INFO".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from perfloop.diagnose.engines import trouble
from perfloop.diagnose.finish import conclude, percent
from perfloop.model.engines import RedisObservation
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Finding, Proposal, RuleResult

ID = "redis-health"
NEEDS = ("redis",)
THRESHOLDS = {"busy_min": 0.05, "slow_ms": 5.0, "evicted_min": 1.0, "hit_min": 0.5, "reads_min": 200.0, "connections_min": 20.0, "churn_min": 0.2}

WALKS = (
    "keys",
    "hgetall",
    "smembers",
    "lrange",
    "zrange",
    "hkeys",
    "hvals",
    "sort",
    "sunion",
    "sinter",
    "sdiff",
    "flushall",
    "flushdb",
    "zrangebyscore",
    "zrevrange",
)
SCRIPTS = ("eval", "evalsha", "fcall")
READS = ("get", "hget")


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge each Redis that was looked at."""
    limit = {**THRESHOLDS, **thresholds}
    found = [finding for seen in evidence.redis for check in CHECKS for finding in check(seen, limit)]
    found.sort(key=lambda finding: -finding.win_back_per_s)
    looked = sum(sum(load.calls for load in seen.commands) for seen in evidence.redis)
    return conclude(
        ID, evidence, found, f"{looked:,} commands in the window, memory, persistence and {sum(seen.keys_sampled for seen in evidence.redis):,} keys"
    )


def _peer(seen: RedisObservation) -> str:
    return f"redis {seen.host}:{seen.port}"


def _walks(seen: RedisObservation, limit: Mapping[str, float]) -> Iterator[Finding]:
    slow = {entry.text.split()[0].lower(): entry for entry in reversed(seen.slow)}
    for load in seen.commands:
        share = load.total_ms / 1000 / max(seen.window_s, 1e-9)
        entry = slow.get(load.name)
        worst = entry.worst_ms if entry else load.total_ms / max(1, load.calls)
        if load.name not in (*WALKS, *SCRIPTS) or (share < limit["busy_min"] and worst < limit["slow_ms"]):
            continue
        facts = [f"{load.calls:,} calls of {load.name.upper()}, {load.total_ms / load.calls:,.1f} ms each: {percent(share)} of the server's time"]
        facts += [f"slow log: {entry.text} took up to {entry.worst_ms:,.1f} ms"] if entry else []
        rule = "redis-keys" if load.name == "keys" else "redis-slow-script" if load.name in SCRIPTS else "redis-slow-command"
        fix = {
            "redis-keys": "SCAN with a cursor and a COUNT, or keep a set of the names; never KEYS in a service",
            "redis-slow-script": "do less in one script, or in several; redis.call in a loop over many keys stops all clients",
            "redis-slow-command": f"read a part ({load.name.upper()} with a range, HSCAN, SSCAN, ZRANGE … LIMIT), or split the collection",
        }[rule]
        yield trouble(rule, f"{load.name.upper()} stops all clients for {worst:,.1f} ms", tuple(facts), fix=fix, disproof="without these calls the latency of others is the same", weight=share + worst / 1000, peer=_peer(seen), actor="backend developer", proposals=(Proposal(kind="code", title=fix),))  # fmt: skip


def _big_keys(seen: RedisObservation, limit: Mapping[str, float]) -> Iterator[Finding]:
    if seen.big_keys:
        key = seen.big_keys[0]
        facts = tuple(f"{one.kind} {one.name}: {one.bytes / 2**20:,.1f} MiB, {one.elements:,} elements" for one in seen.big_keys[:5])
        yield trouble("redis-big-key", f"the {key.kind} {key.name} holds {key.bytes / 2**20:,.1f} MiB", facts, fix="split it (by day, by user, by hash of the member), and delete with UNLINK", disproof="no command touches it whole", weight=0.01, peer=_peer(seen), actor="backend developer", proposals=(Proposal(kind="code", title="split the big key"),))  # fmt: skip


def _memory(seen: RedisObservation, limit: Mapping[str, float]) -> Iterator[Finding]:
    refused = seen.delta.get("error_OOM", 0.0) / max(seen.window_s, 1e-9)
    evicted = seen.delta.get("evicted_keys", 0.0) / max(seen.window_s, 1e-9)
    policy, memory = seen.config.get("maxmemory-policy", ""), seen.info.get("maxmemory", 0.0)
    blank = seen.keys_without_ttl / max(1, seen.keys_sampled)
    used = f"{seen.info.get('used_memory', 0) / 2**20:,.1f} of {memory / 2**20:,.1f} MiB used, maxmemory-policy {policy}"
    larger = Proposal(kind="redis-setting", title="twice the memory", params={"name": "maxmemory", "value": str(int(memory * 2))})
    if refused >= limit["evicted_min"]:
        yield trouble("redis-out-of-memory", f"{refused:,.0f} writes a second are refused: the memory is full and nothing may be evicted", (used, f"{percent(blank)} of the keys have no TTL"), fix="a policy that evicts (allkeys-lru for a cache), TTLs, or more memory", disproof="with room no write is refused", weight=1.0 + refused, peer=_peer(seen), setting="maxmemory-policy", proposals=(Proposal(kind="redis-setting", title="evict the least used", params={"name": "maxmemory-policy", "value": "allkeys-lru"}), larger))  # fmt: skip
    elif evicted >= limit["evicted_min"]:
        yield trouble("redis-evicting", f"{evicted:,.0f} keys a second are thrown out for lack of memory", (used,), fix="more memory, smaller values, shorter TTLs; allkeys-lfu where few keys are hot", disproof="with twice the memory the hit ratio stays as it is", weight=0.5 + evicted / 1000, peer=_peer(seen), setting="maxmemory", proposals=(larger,))  # fmt: skip
    elif (
        blank > 0.9
        and seen.keys >= 1_000
        and seen.delta.get("keyspace_misses", 0) + seen.delta.get("keyspace_hits", 0) > 0
        and not (memory and policy.startswith("allkeys"))
    ):
        yield trouble("redis-no-ttl", f"{percent(blank)} of the keys never expire, and nothing bounds the memory", (f"{seen.keys:,} keys, {seen.keys_without_ttl:,} of {seen.keys_sampled:,} sampled without a TTL", used if memory else "maxmemory is 0: without a bound"), fix="SET … EX for what can be computed again, and maxmemory with allkeys-lru", disproof="the number of keys does not grow", weight=0.005, peer=_peer(seen), actor="backend developer", proposals=(Proposal(kind="code", title="give cached keys a TTL"),))  # fmt: skip
    ratio, rss = seen.info.get("mem_fragmentation_ratio", 1.0), seen.info.get("used_memory_rss", 0.0)
    wasted = rss - seen.info.get("used_memory", 0.0)
    if ratio >= 1.5 and wasted >= 64 * 2**20:
        yield trouble("redis-fragmented", f"the process holds {ratio:.1f} times what it uses", (f"{wasted / 2**20:,.0f} MiB lost to fragmentation",), fix="CONFIG SET activedefrag yes, or a restart", disproof="after defragmentation it holds as much", weight=0.01, peer=_peer(seen), setting="activedefrag", proposals=(Proposal(kind="redis-setting", title="active defragmentation", params={"name": "activedefrag", "value": "yes"}),))  # fmt: skip


def _hits(seen: RedisObservation, limit: Mapping[str, float]) -> Iterator[Finding]:
    hits, misses = seen.delta.get("keyspace_hits", 0.0), seen.delta.get("keyspace_misses", 0.0)
    if hits + misses < limit["reads_min"] or hits / (hits + misses) >= limit["hit_min"] or seen.delta.get("evicted_keys", 0):
        return
    yield trouble("redis-misses", f"only {percent(hits / (hits + misses))} of the lookups hit", (f"{hits:,.0f} hits, {misses:,.0f} misses in {seen.window_s:.0f} s; no key was evicted",), fix="cache what is asked for (also that there is nothing), with a longer TTL and a key that repeats", disproof="the lookups that miss are not computed afterwards", weight=0.05 + misses / max(seen.window_s, 1e-9) / 10_000, peer=_peer(seen), actor="backend developer", proposals=(Proposal(kind="code", title="cache what is asked for"),))  # fmt: skip


def _disk(seen: RedisObservation, limit: Mapping[str, float]) -> Iterator[Finding]:
    writes = sum(
        load.calls
        for load in seen.commands
        if load.name in ("set", "lpush", "rpush", "hset", "sadd", "zadd", "incr", "incrby", "setex", "del", "hincrby", "xadd")
    )
    if seen.config.get("appendonly") == "yes" and seen.config.get("appendfsync") == "always" and writes >= 10:
        yield trouble("redis-fsync-always", "each write waits for the disk: appendfsync is always", (f"{writes:,} writes in {seen.window_s:.0f} s",), fix="appendfsync everysec: at most one second of writes is lost in a crash", disproof="with everysec writes take as long", weight=0.2, peer=_peer(seen), setting="appendfsync", proposals=(Proposal(kind="redis-setting", title="fsync each second", params={"name": "appendfsync", "value": "everysec"}),))  # fmt: skip
    saves = seen.delta.get("rdb_saves", 0.0) or seen.delta.get("total_forks", 0.0)
    if saves / max(seen.window_s, 1e-9) > 1 / 20:
        yield trouble("redis-saves-often", f"{saves:,.0f} snapshots to disk in {seen.window_s:.0f} s", (f"save {seen.config.get('save', '')}: each one forks the process and copies pages", f"the last fork took {seen.info.get('latest_fork_usec', 0) / 1000:,.1f} ms"), fix="rarer snapshots (save 900 1), or none where it is a cache", disproof="without snapshots the latency is the same", weight=0.1, peer=_peer(seen), setting="save", proposals=(Proposal(kind="redis-setting", title="rarer snapshots", params={"name": "save", "value": "900 1"}),))  # fmt: skip


def _clients(seen: RedisObservation, limit: Mapping[str, float]) -> Iterator[Finding]:
    made = seen.delta.get("total_connections_received", 0.0)
    calls = sum(load.calls for load in seen.commands)
    if made / max(seen.window_s, 1e-9) >= limit["connections_min"] and made >= limit["churn_min"] * max(1, calls):
        yield trouble("redis-connection-churn", f"{made / seen.window_s:,.0f} new connections a second for {calls / seen.window_s:,.0f} commands", (f"{made:,.0f} connections and {calls:,} commands in {seen.window_s:.0f} s",), fix="one pool of connections for the life of the process", disproof="with a pool the latency is the same", weight=0.3, peer=_peer(seen), actor="backend developer", proposals=(Proposal(kind="code", title="keep connections in a pool"),))  # fmt: skip
        return
    refused = seen.delta.get("rejected_connections", 0.0)
    if refused:
        yield trouble("redis-max-clients", f"{refused:,.0f} connections were refused: maxclients is {seen.config.get('maxclients', '?')}", (f"{seen.info.get('connected_clients', 0):,.0f} are connected",), fix="fewer or smaller pools, or a larger maxclients", disproof="no client is refused with a larger one", weight=2.0, peer=_peer(seen), setting="maxclients")  # fmt: skip
    for load in seen.commands:
        rate = load.calls / max(seen.window_s, 1e-9)
        if load.name in READS and rate >= 2_000 and load.calls >= 0.7 * calls and load.calls > 50 * max(1.0, seen.info.get("connected_clients", 1.0)):
            yield trouble("redis-chatty", f"{rate:,.0f} single {load.name.upper()} a second that could go together", (f"{percent(load.calls / calls)} of all commands, {load.total_ms / load.calls * 1000:,.1f} µs each in the server: the round trips are what it costs",), fix="MGET, HMGET or a pipeline for what one request needs", disproof="the reads come from different requests", weight=0.02, peer=_peer(seen), actor="backend developer", proposals=(Proposal(kind="code", title="read several keys in one round trip"),))  # fmt: skip


CHECKS = (_walks, _big_keys, _memory, _hits, _disk, _clients)
