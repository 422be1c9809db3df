"""Takes CPU away from one core for a short time: a busy process of ours beside the service, and a reference that says how much it takes.

Half of a core is not what a competitor takes from a process that mostly waits (the scheduler lets it in when it wakes), so nothing is assumed: a reference process,
pinned to the same core, computes bursts as long as a request's and rests between; its slow-down is the measure. Both end by themselves, and with us.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from perfloop.errors import CannotMeasure
from perfloop.host.command import run_command

COMPETE_MAX_S = 10.0

_SPIN = "import sys, time\nend = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end:\n    for _ in range(20000): pass\n"
_REFERENCE = """
import sys, time
burst_s, rest_s, count = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
if sys.argv[4:]:
    with open(sys.argv[4], "w") as group: group.write("0")
def work(n):
    for _ in range(n): pass
n, begun = 20000, time.process_time()
while True:
    before = time.process_time(); work(n); took = time.process_time() - before
    if took >= 0.002: break
    n *= 2
loops, walls = max(1, int(n * burst_s / took)), []
for _ in range(count):
    time.sleep(rest_s)
    before = time.monotonic(); work(loops); walls.append(time.monotonic() - before)
print(sorted(walls)[len(walls) // 2], sum(walls) / len(walls))
"""


class Competitor:
    """Context manager: one busy process pinned to a core, for at most ten seconds."""

    def __init__(self, cpu: int, longest_s: float = COMPETE_MAX_S) -> None:
        self._cpu, self._longest_s = cpu, min(longest_s, COMPETE_MAX_S)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Competitor:
        """Start it; ``CannotMeasure`` where it may not run on that core."""
        guard = shutil.which("setpriv")
        prefix = [guard, "--pdeathsig", "KILL"] if guard else []
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-S", "-c", _SPIN, f"{self._longest_s:g}"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        try:
            os.sched_setaffinity(self._process.pid, {self._cpu})
        except OSError as error:
            self.__exit__(None, None, None)
            raise CannotMeasure(
                f"no process of ours may run on core {self._cpu}", error.strerror or "", "run perfloop where the service's cores are allowed"
            ) from None
        time.sleep(0.1)  # until it computes
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End it, and see that it is gone."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int | None:
        """Its process, while it runs."""
        return self._process.pid if self._process else None


def burst_s(cpus: Sequence[int], length_s: float, rest_s: float, count: int = 15, group: Path | None = None, mean: bool = False) -> float:
    """How long a burst of computing takes on these cores now, where it would take ``length_s`` of CPU time; the median of ``count``, or the mean: a quota stops one burst for long and
    others not at all. ``group``: in that control group."""
    taskset = shutil.which("taskset")
    if taskset is None:
        raise CannotMeasure("the reference cannot be pinned", "taskset is missing", "install util-linux")
    argv = [taskset, "-c", ",".join(map(str, cpus)), sys.executable, "-S", "-c", _REFERENCE, f"{length_s:g}", f"{rest_s:g}", str(count)]
    done = run_command([*argv, str(group / "cgroup.procs")] if group else argv, timeout_s=COMPETE_MAX_S)
    try:
        return float(done.stdout.split()[mean])
    except (ValueError, IndexError):
        raise CannotMeasure("the reference did not run", done.stderr[-200:], "run perfloop doctor") from None
