"""Memcached throws out what is still wanted, misses, or spends its time on connections.

What it finds
    Evictions (of all items, or of one size only), a low hit ratio, connections made anew for each request, and a full table of connections.

Why it costs you
    What was thrown out or never there is computed again by the service, and a new connection costs more than the read itself.

How it decides
    From its counters over the window: evictions from ``evicted_min`` a second on; fewer than ``hit_min`` of at least ``reads_min`` reads hit without evictions;
    connections from ``connections_min`` a second on and a fifth of the commands.

What would disprove it
    With more memory, or a pool, the hit ratio and the latency of the clients stay as they were.

How to fix
    More memory (-m), slab_reassign and slab_automove where one size alone evicts, keys that repeat, a longer TTL, a pool of connections.

Sources
    Memcached documentation: "Protocol" (general-purpose statistics), "Memory management" (slab automover).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from perfloop.diagnose.engines import trouble
from perfloop.diagnose.finish import conclude, percent
from perfloop.model.engines import MemcachedObservation
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Finding, Proposal, RuleResult

ID = "memcached-health"
NEEDS = ("memcached",)
THRESHOLDS = {"evicted_min": 1.0, "hit_min": 0.5, "reads_min": 200.0, "connections_min": 20.0}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge each server that was looked at."""
    limit = {**THRESHOLDS, **thresholds}
    found = sorted((finding for seen in evidence.memcached for finding in _judge(seen, limit)), key=lambda finding: -finding.win_back_per_s)
    return conclude(ID, evidence, found, "hits, evictions, slabs and connections over the window")


def _judge(seen: MemcachedObservation, limit: Mapping[str, float]) -> Iterator[Finding]:
    peer, window = f"memcached {seen.host}:{seen.port}", max(seen.window_s, 1e-9)
    evicted, hits, misses = seen.delta.get("evictions", 0.0), seen.delta.get("get_hits", 0.0), seen.delta.get("get_misses", 0.0)
    made, reads, used = seen.delta.get("total_connections", 0.0), seen.delta.get("cmd_get", 0.0) + seen.delta.get("cmd_set", 0.0), seen.stats.get("bytes", 0.0)
    memory = seen.stats.get("limit_maxbytes", 0.0)
    code = (Proposal(kind="code", title="see the fix"),)
    if evicted / window >= limit["evicted_min"]:
        sizes = ", ".join(f"{size} bytes: {count:,.0f}" for size, count in sorted(seen.evicted_slabs.items(), key=lambda item: -item[1])[:4])
        one = len(seen.evicted_slabs) == 1 and used < 0.7 * memory
        title = (
            f"items of one size are thrown out while {percent(1 - used / max(memory, 1))} of the memory is free"
            if one
            else f"{evicted / window:,.0f} items a second are thrown out"
        )
        fix = "slab_reassign and slab_automove=1, so that pages go to the size that needs them" if one else "more memory (-m), shorter TTLs, smaller values"
        yield trouble("memcached-slab-evictions" if one else "memcached-evicting", title, (f"{used / 2**20:,.0f} of {memory / 2**20:,.0f} MiB used", f"evictions by chunk size: {sizes}"), fix=fix, disproof="with more room the hit ratio stays as it is", weight=0.5, peer=peer, proposals=code)  # fmt: skip
    elif hits + misses >= limit["reads_min"] and hits / (hits + misses) < limit["hit_min"]:
        yield trouble("memcached-misses", f"only {percent(hits / (hits + misses))} of the reads hit", (f"{hits:,.0f} hits, {misses:,.0f} misses, no evictions",), fix="cache what is asked for, with keys that repeat and a longer TTL", disproof="the reads that miss are not computed afterwards", weight=0.2, peer=peer, actor="backend developer", proposals=code)  # fmt: skip
    if made / window >= limit["connections_min"] and made >= 0.2 * max(1.0, reads):
        yield trouble("memcached-connection-churn", f"{made / window:,.0f} new connections a second for {reads / window:,.0f} commands", (f"{seen.stats.get('curr_connections', 0):,.0f} are open",), fix="one pool of connections for the life of the process", disproof="with a pool the latency is the same", weight=0.3, peer=peer, actor="backend developer", proposals=code)  # fmt: skip
    refused = seen.delta.get("rejected_connections", 0.0) + seen.delta.get("listen_disabled_num", 0.0)
    if refused:
        yield trouble("memcached-max-connections", f"the table of connections was full {refused:,.0f} times", (f"max_connections {seen.stats.get('max_connections', 0):,.0f}",), fix="smaller pools, or a larger -c", disproof="with smaller pools no one is refused", weight=1.0, peer=peer, proposals=code)  # fmt: skip
