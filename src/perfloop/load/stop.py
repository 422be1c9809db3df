"""The kill switch: finds the processes that send load by what they are and whose run they belong to, and ends them by their ids."""

from __future__ import annotations

from perfloop.errors import CannotMeasure
from perfloop.host.processes import all_pids, end_process, start_time_s
from perfloop.host.procfs import argv
from perfloop.load.engines import http, tools
from perfloop.model.replies import StoppedLoad

#: A generator that is told to stop sends nothing more, awaits what is in flight, and writes what it measured; one that does not is killed.
PATIENCE_S = 3.0
WORKERS = frozenset((http.WORKER, tools.WORKER))


def generators(run_id: str = "") -> list[tuple[int, float, str]]:
    """(pid, start time, run) of the load generators on this machine, of one run or of all."""
    found = []
    for pid in all_pids():
        started_s = start_time_s(pid)
        try:
            words = argv(pid)
        except CannotMeasure:
            continue  # gone, or another user's: not ours to end
        if started_s is not None and not WORKERS.isdisjoint(words) and "--run" in words[:-1]:
            run = words[words.index("--run") + 1]
            if not run_id or run == run_id:
                found.append((pid, started_s, "" if run == "-" else run))
    return found


def stop_load(run_id: str = "") -> tuple[StoppedLoad, ...]:
    """Ends the load of one run, or all load of this machine. No request starts once this has returned."""
    return tuple(StoppedLoad(pid=pid, run_id=run, how=end_process(pid, started_s, PATIENCE_S)) for pid, started_s, run in generators(run_id))
