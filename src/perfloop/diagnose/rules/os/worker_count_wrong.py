"""The number of worker processes does not fit the work.

What it finds
    Servers with one request per process whose processes are all taken by requests that wait; and servers with so many busy processes that they fight for the cores.

Why it costs you
    Too few, and requests wait in the listen queue while the machine idles; too many, and each request is slower, with nothing gained.

How it decides
    Too few: every worker has a request for at least ``busy_min`` of the time, mostly waiting for others (``away_min``), and by Little's law more requests are
    under way than workers: those outside are at least ``share_min`` of the requests' time and ``request_min_s`` per request. Too many: at least
    ``crowd_min`` processes per core compute at the same time, and wait for a core ``delay_min`` times as long as they compute.

What would disprove it
    With twice the workers (or half of them) requests take as long.

How to fix
    For work that waits: more workers, or threads in them (gunicorn ``--threads``, ``-k gthread``), or asynchronous handlers. For work that computes: one worker per core.

Sources
    Gunicorn documentation, "How Many Workers?"; Little's law; Gregg, the USE method.
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import code_change, conclude, gain, percent
from perfloop.diagnose.occupancy import Group, groups
from perfloop.diagnose.reading import Reading
from perfloop.diagnose.rules.os.cpu_saturated import allowed_cores
from perfloop.diagnose.waiting_outside import THRESHOLDS as OUTSIDE
from perfloop.diagnose.waiting_outside import Servers, exhausted, too_few
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, RuleResult

ID = "worker-count-wrong"
NEEDS = ("stacks", "processes", "window", "solo")
THRESHOLDS = {**OUTSIDE, "crowd_min": 3.0, "delay_min": 1.0}
_PREVENTION = "size workers by what requests do: waiting needs many, computing one per core"

_WORKING_S = 0.1  # CPU seconds per second from which on a process computes


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge the worker processes of the service."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    seen = groups(reading)
    found = [_too_few(reading, group) for group in seen if group.threads == group.processes and exhausted(reading, group, limit)]
    cores, _ = allowed_cores(evidence)
    working = [process for process in evidence.processes if process.window_s > 0 and process.cpu_s / process.window_s >= _WORKING_S]
    computed = sum(process.cpu_s / process.window_s for process in working)
    delayed = sum(process.run_delay_s / process.window_s for process in working)
    if not found and len(working) >= limit["crowd_min"] * cores and delayed >= limit["delay_min"] * computed and computed >= 0.8 * cores:
        found = [_too_many(reading, len(working), cores, computed, delayed)]
    return conclude(
        ID,
        evidence,
        found,
        f"{len(evidence.processes)} processes on {cores:g} cores, of which {len(working)} compute; none is full while requests wait outside",
    )


def _too_few(reading: Reading, group: Group) -> Finding:
    words = Servers(
        rule=ID,
        who="workers",
        title=f"{group.processes} workers of one request each are too few: requests wait {{wait}} for one",
        hypothesis="requests are not begun because every worker has one",
        advice="more workers, or threads in each worker, because these requests wait and do not compute",
        prevention=_PREVENTION,
        change="more workers or threads",
    )
    return too_few(reading, group, words, ID)


def _too_many(reading: Reading, working: int, cores: float, computed: float, delayed: float) -> Finding:
    rate = reading.rate_per_s
    advice = f"about {cores:g} workers that compute: one per core"
    return Finding(
        rule=ID,
        confidence=Confidence.POSSIBLE,
        title=f"{working} workers compute at once on {cores:g} cores",
        steps=tuple(reading.steps),
        win_back_s=gain(delayed, rate, None, "run delay of threads"),
        win_back_per_s=delayed,
        evidence=(
            f"{working} processes compute {computed:.2f} s per second on {cores:g} cores, and wait {delayed:.2f} s per second for one",
            f"{percent(delayed / (computed + delayed))} of their time is waiting for a core",
        ),
        hypothesis="more workers compute than there are cores, so they only delay one another",
        disproof="with half the workers requests take as long",
        fix=advice,
        prevention=_PREVENTION,
        actor="devops engineer",
        proposals=code_change("fewer workers", None, advice),
    )
