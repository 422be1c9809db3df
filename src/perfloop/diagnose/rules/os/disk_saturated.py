"""A disk is busy all the time, and work waits for it.

What it finds
    Disks that always have requests under way while tasks stall on input and output.

Why it costs you
    Every read that is not cached and every commit waits in the same queue, whoever fills it: a backup is enough to slow the checkout.

How it decides
    A disk has requests under way for at least ``busy_min`` of the window and at least ``queue_min`` of them on average, and tasks stall on I/O for at
    least ``stall_min`` (PSI). Busy alone is no finding: a disk that serves many at once is busy long before it is full; nor is what others wait for: threads of the
    service or its database must sit in the disk's wait (state D), or the service itself read and write there.

What would disprove it
    No thread of the service or its database waits for the disk.

How to fix
    Find who reads and writes (``iotop``, the database's plans); more memory for caches, batched writes, a faster disk, or another for logs and backups.

Sources
    Gregg, the USE method; Linux kernel documentation, iostats and PSI.
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import code_change, conclude, gain, percent
from perfloop.diagnose.reading import Reading
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, RuleResult

ID = "disk-saturated"
NEEDS = ("host", "window")
THRESHOLDS = {"busy_min": 0.85, "queue_min": 1.5, "stall_min": 0.1}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge the busiest disk."""
    limit = {**THRESHOLDS, **thresholds}
    reading, host = Reading(evidence), evidence.host
    assert host is not None  # NEEDS
    stall = host.psi_io_some
    disk = host.disks[0] if host.disks else None
    clear = f"the busiest disk is {percent(disk.busy_share)} busy" if disk else "no disk did anything"
    clear += f", and tasks stall on I/O for {percent(stall)} of the window" if stall is not None else ""
    if disk is None or disk.busy_share < limit["busy_min"] or disk.queue_mean < limit["queue_min"] or (stall or 0.0) < limit["stall_min"]:
        return conclude(ID, evidence, [], clear)
    waiting = sum(thread.samples for one in evidence.waits for thread in one.threads if thread.state == "D") / max(
        1, max((one.samples for one in evidence.waits), default=1)
    )
    database = sum(count for one in evidence.postgres for query in one.queries for wait, count in query.waits.items() if wait.startswith("IO:"))
    own = sum((process.read_bytes or 0) + (process.written_bytes or 0) for process in evidence.processes)
    felt = waiting >= 0.1 or database > 0 or own >= 0.2 * (disk.read_bytes + disk.written_bytes)
    if not felt:
        return conclude(ID, evidence, [], f"{clear}; but nothing of the service waits for it")
    won = max(waiting, database / max(1, max((one.samples for one in evidence.postgres), default=1)))
    advice = "find who reads and writes there, give caches more memory, write in batches, or use a faster disk"
    finding = Finding(
        rule=ID,
        confidence=Confidence.LIKELY,
        title=f"disk {disk.name} is {percent(disk.busy_share)} busy, with {disk.queue_mean:.1f} requests under way",
        steps=tuple(reading.steps),
        win_back_s=gain(won, reading.rate_per_s, None, "threads in the disk's wait"),
        win_back_per_s=won,
        evidence=(
            clear,
            f"{disk.reads:,} reads and {disk.writes:,} writes in {host.window_s:.0f} s, {disk.wait_mean_ms or 0:.1f} ms each, {(disk.read_bytes + disk.written_bytes) / 1e6:.0f} MB",
            f"{waiting:.1f} threads of the service wait for a disk at any moment; it read or wrote {own / 1e6:.0f} MB itself, and {database} samples of its database waited for I/O",
        ),
        hypothesis="requests wait in the disk's queue",
        disproof="no thread of the service or its database waits for the disk",
        fix=advice,
        prevention="alert on I/O pressure (PSI), not on utilisation",
        actor="SRE",
        proposals=code_change("less, or faster, I/O", None, advice),
    )
    return conclude(ID, evidence, [finding], clear)
