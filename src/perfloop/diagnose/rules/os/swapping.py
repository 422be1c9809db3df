"""Memory of the service is on a disk.

What it finds
    Machines that move pages out to swap and back in while the service answers, and services of which a part is swapped out.

Why it costs you
    A page that was swapped out costs a disk read, a hundred thousand times what memory costs; a garbage collector walks over all of them.

How it decides
    In the window at least ``pages_min`` pages per second come back from swap, and the service has memory there or takes major page faults; likely where the service itself has at least ``swapped_min_bytes`` swapped out
    and takes major page faults. Pages that only go out are no finding: nobody waits for them.

What would disprove it
    The service takes no major page faults: what is swapped out is not used.

How to fix
    Less memory in use (workers, caches), more memory, a lower ``vm.swappiness``, or no swap for this service (``memory.swap.max = 0``).

Sources
    Gregg, "Systems Performance" (anonymous paging); Linux kernel documentation, vm sysctl.
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import code_change, conclude
from perfloop.diagnose.reading import Reading
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, RuleResult

ID = "swapping"
NEEDS = ("host", "processes")
THRESHOLDS = {"pages_min": 20.0, "swapped_min_bytes": 10_000_000.0}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge the pages that came back from swap."""
    limit = {**THRESHOLDS, **thresholds}
    reading, host = Reading(evidence), evidence.host
    assert host is not None  # NEEDS
    back = host.swap_in_pages / max(host.window_s, 1e-9)
    swapped = sum(process.swap_bytes or 0 for process in evidence.processes)
    faults = sum(process.major_faults for process in evidence.processes)
    clear = f"{back:.0f} pages per second come back from swap, {swapped / 1e6:.0f} MB of the service are swapped out, and it took {faults} major page faults"
    if back < limit["pages_min"] or not (faults or swapped):
        return conclude(ID, evidence, [], clear)
    advice = "use less memory, add memory, or keep this service out of swap"
    finding = Finding(
        rule=ID,
        confidence=Confidence.LIKELY if swapped >= limit["swapped_min_bytes"] and faults > 0 else Confidence.POSSIBLE,
        title=f"{back:.0f} pages per second are read back from swap",
        steps=tuple(reading.steps),
        win_back_per_s=host.psi_memory_some or 0.0,
        evidence=(clear, f"{host.swap_out_pages} pages went out in {host.window_s:.0f} s"),
        hypothesis="pages that requests need are on the disk",
        disproof="the service takes no major page faults",
        fix=advice,
        prevention="alert on pages read from swap, not on swap in use",
        actor="SRE",
        proposals=code_change("keep the service in memory", None, advice),
    )
    return conclude(ID, evidence, [finding], clear)
