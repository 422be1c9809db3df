"""The service is about to run out of file descriptors.

What it finds
    Processes that have nearly as many files and sockets open as they may.

Why it costs you
    At the limit no connection is accepted and no file opened any more: requests hang in the listen queue or fail, while CPU and memory look healthy.

How it decides
    At the end of the window a process has at least ``used_min`` of its soft limit open. Likely from ``likely_used`` on.

What would disprove it
    The number of descriptors does not grow with load or time.

How to fix
    Close what is not needed (responses, files, connections without a pool), then raise ``LimitNOFILE`` or ``ulimit -n``.

Sources
    proc(5), getrlimit(2); Gregg, the USE method (software resources).
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import code_change, conclude, percent
from perfloop.diagnose.reading import Reading
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, RuleResult

ID = "fd-limit"
NEEDS = ("processes",)
THRESHOLDS = {"used_min": 0.8, "likely_used": 0.95}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge the process that is nearest to its limit."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    limited = [process for process in evidence.processes if process.fd_limit]
    worst = max(limited, key=lambda process: process.fds / (process.fd_limit or 1), default=None)
    if worst is None or not worst.fd_limit:
        return conclude(ID, evidence, [], "no limit of file descriptors was read")
    used = worst.fds / worst.fd_limit
    clear = f"process {worst.pid} has {worst.fds:,} of {worst.fd_limit:,} file descriptors open"
    if used < limit["used_min"]:
        return conclude(ID, evidence, [], clear)
    failed = sum(count for item in (evidence.window.steps if evidence.window else ()) for count in item.errors.values())
    advice = "close what is not needed, keep connections in a pool, then raise LimitNOFILE (ulimit -n)"
    finding = Finding(
        rule=ID,
        confidence=Confidence.LIKELY if used >= limit["likely_used"] else Confidence.POSSIBLE,
        title=f"{percent(used)} of the file descriptors are in use",
        steps=tuple(reading.steps),
        win_back_per_s=float(failed) / evidence.window.duration_s if evidence.window and used >= limit["likely_used"] else 0.0,
        evidence=(clear, f"{failed} requests failed under load"),
        hypothesis="soon nothing can be opened any more",
        disproof="the number of descriptors does not grow with load or time",
        fix=advice,
        prevention="alert on open descriptors against the limit",
        actor="SRE",
        proposals=code_change("fewer descriptors, or a higher limit", None, advice),
    )
    return conclude(ID, evidence, [finding], clear)
