"""Ends a round in flight, within a second or two, where a candidate does harm: requests fail, are not answered, take twice as long, or memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from perfloop.errors import ChangeRefused, PerfloopError
from perfloop.host import cgroup, machine
from perfloop.load.run import Progress
from perfloop.model.run import Window
from perfloop.validate.levels import level, merged, sent_and_failed

#: fewer answers have no p99
ANSWERS_MIN = 100
P99_FACTOR = 2.0
#: doubling a p99 below this is nobody's harm
P99_FLOOR_S = 0.010
#: failed requests beyond the default's own share
ERROR_SHARE_MORE = 0.02
ERRORS_MIN = 5
MEMORY_SHARE_MAX = 0.9
#: requests that are due and not answered are harm beyond what Little's law gives them at twice the p99, and never below this many
WAITING_MIN = 20


class Watch:
    """Called once a second with a window so far; ``ChangeRefused`` ends it, and the change is undone on the way out.

    ``default``: windows without any candidate. Only rounds whose label begins with one of ``labels`` are watched.
    """

    def __init__(self, default: Sequence[Window], rate_per_s: float, pids: Callable[[], Sequence[int]], labels: tuple[str, ...] = ("race-", "proof-b")) -> None:
        sent, failed = sent_and_failed(default)
        self._p99_max_s = max(P99_FLOOR_S, P99_FACTOR * max((level([window], None, "p99_s") or 0.0 for window in default), default=0.0))
        self._error_share_max = (failed / sent if sent else 0.0) + ERROR_SHARE_MORE
        slowest_s = max((merged([window], None).quantile(1.0) or 0.0 for window in default), default=0.0)
        self._waiting_max = max(WAITING_MIN, rate_per_s * max(1.0, self._p99_max_s, slowest_s))
        self._pids, self._labels = pids, labels
        self.stopped: list[tuple[str, float]] = []  # why, and how many seconds into its round

    def __call__(self, label: str, progress: Progress) -> None:
        """One look at a round."""
        if label.startswith(self._labels) and (why := self.harm(progress)):
            self.stopped.append((why, progress.elapsed_s))
            raise ChangeRefused("stopped in flight", why=why, fix="it was undone at once")

    def harm(self, progress: Progress) -> str:
        """What harm is seen; empty where none is."""
        answered = progress.ok + progress.errors
        if progress.errors >= ERRORS_MIN and progress.errors > self._error_share_max * answered:
            return f"{progress.errors} of {answered} requests failed"
        p99 = progress.histogram.quantile(0.99) if progress.ok >= ANSWERS_MIN else None
        if p99 and p99 > self._p99_max_s:
            return f"p99 {p99 * 1000:.0f} ms, above {self._p99_max_s * 1000:.0f} ms, twice the default's"
        if progress.sent - answered > self._waiting_max:
            return f"{progress.sent - answered} requests wait for an answer"
        return memory_harm(self._pids())


def memory_harm(pids: Sequence[int]) -> str:
    """Whether the machine, or the service's control group, has used nine tenths of its memory."""
    try:
        whole = machine.memory()
    except PerfloopError:  # not Linux: not known, and the errors and the latency are still watched
        return ""
    group = cgroup.memory(pids[0]) if pids else None
    if group and group.used_bytes and group.used_bytes > MEMORY_SHARE_MAX * group.limit_bytes:
        return f"{group.used_bytes / group.limit_bytes:.0%} of the service's memory limit is used"
    share = 1 - whole["MemAvailable"] / whole["MemTotal"]
    return f"{share:.0%} of the memory is used" if share > MEMORY_SHARE_MAX else ""
