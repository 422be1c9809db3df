"""All threads that serve requests are taken, and requests wait for one to be free.

What it finds
    Thread pools (of a server, or of an executor that coroutines hand work to) whose threads are all busy while more requests wait outside.

Why it costs you
    A request that would take 90 ms takes a second, because it is not begun; CPU and database look idle, and even the cheapest request waits.

How it decides
    Under load every thread of the pool has a request for at least ``busy_min`` of the time, mostly waiting for others (``away_min``), not computing. By
    Little's law more requests are under way than threads have: the difference, which waits outside, is at least ``share_min`` of the requests' time and
    ``request_min_s`` per request. A server with one thread per process is ``worker-count-wrong``.

What would disprove it
    With twice the threads requests wait as long.

How to fix
    Shorten what the threads wait for, or more threads; for long waits an asynchronous handler, and a pool of its own for slow calls (a bulkhead).

Sources
    Little's law; Nygard, "Release It!" (blocked threads, bulkheads); Gregg, the TSA method (thread states).
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import conclude, percent
from perfloop.diagnose.occupancy import Group, groups
from perfloop.diagnose.reading import Reading
from perfloop.diagnose.waiting_outside import THRESHOLDS as OUTSIDE
from perfloop.diagnose.waiting_outside import Servers, exhausted, too_few
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Finding, RuleResult

ID = "thread-pool-exhausted"
NEEDS = ("stacks", "window", "solo")
THRESHOLDS = {**OUTSIDE}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge every group of threads that serve requests."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    seen = groups(reading)
    found = [_finding(reading, group) for group in seen if group.threads > group.processes and exhausted(reading, group, limit)]
    fullest = f"the fullest pool has {seen[0].threads} threads, {percent(seen[0].busy)} busy" if seen else "no thread that serves requests was seen busy"
    return conclude(ID, evidence, found, fullest)


def _finding(reading: Reading, group: Group) -> Finding:
    words = Servers(
        rule=ID,
        who="threads",
        title=f"all {group.threads} threads are taken, and requests wait {{wait}} for one",
        hypothesis="requests are not begun because no thread is free",
        advice="shorten what these threads wait for, allow more of them, or do the waiting asynchronously; slow calls get a pool of their own",
        prevention="alert on the queue in front of the threads, not only on CPU",
        change="wait less in threads",
    )
    return too_few(reading, group, words, group.name)
